"""Makes vader.json: compounds of the reference implementation (pip install vaderSentiment==3.3.2)."""
import json
import pathlib

from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

TEXTS = """VADER is smart, handsome, and funny.
VADER is smart, handsome, and funny!
VADER is very smart, handsome, and funny.
VADER is VERY SMART, handsome, and FUNNY!!!
VADER is not smart, handsome, nor funny.
At least it isn't a horrible book.
The book was only kind of good.
The plot was good, but the characters are uncompelling and the dialog is not great.
Today SUX!
Today only kinda sux! But I'll get by, lol
Make sure you :) or :D today!
Not bad at all
No problem, there is no good reason and no harm or hurt in it
The food was never so good; it was never this good here
It is without doubt excellent, without a doubt excellent, without excellent
This is the least interesting thing, at the very least good, the least good
You know that this car is the bomb
Oh yes she said yeah right of course great
We met there at the bus stop happy
It is a kiss of death friend
I would say sort of good or just enough love
Are you happy??? Are you sure?
really really REALLY good and ABSOLUTELY terrible
good but good, but bad
great 2 but good bad great good
Nobody likes ugly things; I didn't hate it, mayn't love it

word
""".split("\n")

analyzer = SentimentIntensityAnalyzer()
golden = [[text, analyzer.polarity_scores(text)["compound"]] for text in TEXTS]
path = pathlib.Path(__file__).with_name("vader.json")
path.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n")
