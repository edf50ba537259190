"""FastStream on its confluent-kafka broker."""

import asyncio
import sys

from faststream import FastStream
from faststream.confluent import KafkaBroker
from pydantic import BaseModel


class Number(BaseModel):
    value: int


broker = KafkaBroker(sys.argv[1])
app = FastStream(broker)


@broker.subscriber("numbers", group_id="faststream-confluent", auto_offset_reset="earliest")
@broker.publisher("doubled")
async def double(number: Number) -> Number:
    return Number(value=number.value * 2)


if __name__ == "__main__":
    asyncio.run(app.run())
