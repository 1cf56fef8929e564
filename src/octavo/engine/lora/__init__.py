"""LoRA adapters: their files, the names under which they are asked for, and the rows of a step that have one."""
