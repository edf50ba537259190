"""An auction and its bidders: the Observer pattern in one process, without a broker."""

import headwater as hw


class Auction:
    """The subject: it knows that it is observed, and not by whom."""

    bid_placed = hw.Signal[str, float]()
    sold = hw.Signal[str, str, float]()

    def __init__(self, item: str) -> None:
        self.item = item
        self.bids: list[tuple[str, float]] = []

    def bid(self, bidder: str, amount: float) -> None:
        if self.bids and amount <= self.bids[-1][1]:
            raise ValueError(f"{amount} is not more than {self.bids[-1][1]}")
        self.bids.append((bidder, amount))
        self.bid_placed.emit(bidder, amount)

    def close(self) -> None:
        bidder, amount = self.bids[-1]
        self.sold.emit(self.item, bidder, amount)


class Bidder:
    """An observer that bids again when somebody else has, until it is too much."""

    def __init__(self, name: str, auction: Auction, limit: float) -> None:
        self.name, self.auction, self.limit = name, auction, limit
        self.connection = auction.bid_placed.connect(self.on_bid)

    def on_bid(self, bidder: str, amount: float) -> None:
        if bidder == self.name:
            return
        if amount + 10 > self.limit:
            print(f"{self.name} leaves at {amount:g}")
            self.connection.disconnect()
        else:
            self.auction.bid(self.name, amount + 10)


def main() -> None:
    auction = Auction("a clock")
    auction.bid_placed.connect(lambda bidder, amount: print(f"{bidder} bids {amount:g}"), priority=1)
    auction.sold.connect(lambda item, bidder, amount: print(f"{item} goes to {bidder} for {amount:g}"))
    bidders = [Bidder("Ada", auction, 150), Bidder("Bob", auction, 120)]
    auction.bid("Bob", 100)
    auction.close()
    print(f"{len(bidders)} bidders, {len(auction.bids)} bids")


if __name__ == "__main__":
    main()
