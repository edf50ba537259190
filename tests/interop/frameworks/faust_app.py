"""Faust: a stream processor with an agent."""

import sys

import faust

address = sys.argv.pop(1)
sys.argv[1:] = ["worker", "-l", "info", "--without-web"]
app = faust.App("faust", broker=f"kafka://{address}", topic_partitions=1, web_enabled=False)


class Number(faust.Record, serializer="json"):
    value: int


numbers = app.topic("numbers", value_type=Number)
doubled = app.topic("doubled", value_type=Number)


@app.agent(numbers)
async def double(stream):
    async for number in stream:
        await doubled.send(value=Number(value=number.value * 2))


if __name__ == "__main__":
    app.main()
