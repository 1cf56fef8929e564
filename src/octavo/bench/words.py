"""Common words, of which prompts of a wanted length are made: most tokenizers have one token for each of them."""

from __future__ import annotations

OPENER = "the"
_TEXT = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you
were all her she there would their we him been has when who will no more if out so up what its about into than them
can only other time new some could these two may first then do any like my now over such our man me even most made
after also well many must before back through years where much your way down should because long each just those
people how too little good very make world still see own work men day get here old between both life being under three
never know same last another while us off might great go come since against right came take used himself few house use
during without again place around however home small found thought went say part once general high upon school every
does got united left number course war until always away something fact water less public put think almost hand enough
far took head yet government system set told nothing night end called find going look asked later knew point next
program city business give group days young let room present side social several given order national second face per
among form important often things looked early white case large big need four within felt along children saw best
church ever least power development light thing family interest seemed want area mind turned door country service
history example different line act problem local law body hard begin full money free word table open real change south
west north east kind rest become means able human short book read story sun cold air land music paper idea food car
tree sea river game voice girl boy king letter bed green red blue black stone gold fire ship road street wall ground
rock plan list map score test team ball play step walk run move stand sit turn stop start wait hold keep send bring
buy pay sell learn a b c d e f g h i j k l m n o p q r s t u v w x y z
"""
WORDS = tuple(_TEXT.split())
