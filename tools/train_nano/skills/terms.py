"""The vocabulary of serving, one sentence each."""

from random import Random

from tools.train_nano.sample import Check, Exchange

TERMS: dict[str, str] = {
    "KV cache": "The KV cache keeps the keys and values of past tokens so that they are not computed again.",
    "prefix caching": "Prefix caching reuses the KV cache of a prompt beginning that was seen before.",
    "continuous batching": "Continuous batching lets requests join and leave the batch at every step.",
    "chunked prefill": "Chunked prefill splits a long prompt into pieces so that decoding is not held up.",
    "speculative decoding": "Speculative decoding lets a cheap draft guess tokens that the model then checks together.",
    "quantisation": "Quantisation stores numbers in fewer bits to save memory and time.",
    "paged attention": "Paged attention keeps the KV cache in blocks that need not lie side by side.",
    "TTFT": "TTFT is the time to first token, from the request to the first token of the answer.",
    "TPOT": "TPOT is the time per output token after the first one.",
    "ITL": "ITL is the inter-token latency, the time between two tokens of a stream.",
    "goodput": "Goodput is the rate of requests that meet their latency targets.",
    "preemption": "Preemption takes memory from a running request, which is resumed later.",
    "block table": "A block table maps the positions of a request to blocks of the KV cache.",
    "LoRA": "LoRA adapts a model with small low-rank matrices beside its frozen weights.",
    "tensor parallelism": "Tensor parallelism splits each matrix of the model over several devices.",
    "pipeline parallelism": "Pipeline parallelism puts different layers of the model on different devices.",
    "data parallelism": "Data parallelism runs copies of the model on different requests.",
    "expert parallelism": "Expert parallelism puts the experts of a model on different devices.",
    "temperature": "Temperature scales the logits: low values make the answer certain, high values make it varied.",
    "top-p": "Top-p sampling keeps the smallest set of tokens whose probabilities sum to p.",
    "top-k": "Top-k sampling keeps only the k most likely tokens.",
    "tokenizer": "A tokenizer turns text into token numbers and back.",
    "token": "A token is a piece of text with a number that the model reads and writes.",
    "prefill": "Prefill computes the whole prompt at once and fills the KV cache.",
    "decode": "Decode produces the answer one token at a time.",
    "throughput": "Throughput is how many tokens or requests are served per second.",
    "latency": "Latency is how long a request waits for its answer.",
    "replica": "A replica is one of several equal copies of a server.",
    "gateway": "A gateway receives requests and sends each one to a fitting replica.",
    "scheduler": "A scheduler decides which requests run in the next step.",
    "streaming": "Streaming sends each token to the client as soon as it is made.",
    "logits": "Logits are the scores of all tokens before they become probabilities.",
    "greedy decoding": "Greedy decoding always takes the most likely token.",
    "guided decoding": "Guided decoding allows only tokens that keep the answer in a given format.",
    "context window": "The context window is the number of tokens a model can see at once.",
    "embedding": "An embedding is a vector that stands for a token or a text.",
    "attention": "Attention lets each token gather information from the tokens before it.",
    "backpressure": "Backpressure refuses or slows new requests while the server is full.",
}

_ASK = [
    "What is {0}?",
    "What does {0} mean?",
    "Explain {0}.",
    "Define {0}.",
    "What's {0}?",
    "Explain {0} in one sentence.",
    "Tell me about {0}.",
    "In serving, what is {0}?",
    "Please explain {0}.",
    "Can you explain {0}?",
    "What do people mean by {0}?",
    "what is {0}",
    "Describe {0} briefly.",
    "{0}?",
    "What is meant by {0}?",
]
_ARTICLE = {
    "KV cache": "the", "block table": "a", "tokenizer": "a", "token": "a", "replica": "a", "gateway": "a",
    "scheduler": "a", "context window": "the", "embedding": "an",
}  # fmt: skip


def make(rng: Random) -> Exchange:
    """A term to be explained; held out are (term, wording) pairs. The answer counts if it is the sentence taught."""
    term, meaning = rng.choice(list(TERMS.items()))
    name = term
    if term in _ARTICLE and rng.random() < 0.6:
        name = f"{_ARTICLE[term]} {term}"
    question = rng.choice(_ASK).format(name)
    question = question[0].upper() + question[1:] if rng.random() < 0.8 else question
    return Exchange(question, question, meaning, Check("contains", [meaning.rstrip(".")]))
