"""Orders through a durable log: typed events, a handler that fails, dead letters, exactly once, and who caused what.

`python -m examples.order_pipeline HOST:PORT` runs it on a broker or a Kafka cluster; without an address, on a broker in
this process.
"""

import sys
from contextlib import ExitStack
from dataclasses import dataclass

import headwater as hw
from headwater.client.connections import BrokerLike


@dataclass
class Order:
    """What the shop takes in."""

    id: int
    customer: str
    total: float


@dataclass
class Payment:
    """What billing makes of it."""

    order: int
    amount: float


def take_in(broker: BrokerLike, orders: list[Order]) -> None:
    """The shop: each order under its customer's key, so that a customer's orders stay in order."""
    with hw.Producer[Order](broker, source="/shop") as producer:
        for order in orders:
            producer.send("orders", order, key=order.customer, headers={"origin": "web"})


def bill(broker: BrokerLike, number: int) -> None:
    """Billing: reads, pays and records its progress in one transaction, so that nobody pays twice."""
    with (
        hw.Producer[Payment](broker, transactional_id="billing-1", source="/billing") as producer,
        hw.Consumer(broker, "orders", group="billing", value=Order, commit="manual") as orders,
    ):
        for event in orders:
            with producer.transaction(orders):
                producer.send("payments", Payment(event.value.id, event.value.total), key=event.key)
            number -= 1
            if number == 0:
                break


def ship(broker: BrokerLike) -> None:
    """Shipping: what fails is tried again, and then put aside; nothing is lost and nothing holds up the rest."""

    def handler(event: hw.Event[Payment]) -> None:
        if event.value.amount <= 0:
            raise ValueError("nothing to ship")
        print(f"order {event.value.order} is shipped, caused by {event.causation_id is not None}")

    settings = {"isolation.level": "read_committed"}
    with hw.Consumer(
        broker, "payments", group="shipping", value=Payment, idle_timeout_ms=2000, settings=settings
    ) as payments:
        payments.handle(handler, on_error=hw.Retry(attempts=2, delay_ms=10, then=hw.DeadLetter("payments.dead")))


def main(address: str | None = None) -> None:
    with ExitStack() as stack:
        broker: BrokerLike = address or stack.enter_context(hw.Broker())
        with hw.Admin(broker) as admin:
            for topic in ("orders", "payments", "payments.dead"):
                admin.create_topic(topic, exist_ok=True)
        orders = [Order(1, "ada", 9.5), Order(2, "bob", 0.0), Order(3, "ada", 20.0)]
        take_in(broker, orders)
        bill(broker, len(orders))
        ship(broker)
        with hw.Consumer(broker, "payments.dead", group="support", value=Payment) as letters:
            (letter,) = letters.take(1)
            print(f"order {letter.value.order} was put aside: {letter.headers['hw_error']}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
