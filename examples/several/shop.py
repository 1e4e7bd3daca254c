"""A FastAPI application that neither knows nor cares under which path it is mounted."""

import os

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

PRICES = {"apple": 0.5, "pear": 0.75}
CURRENCY = os.environ.get("SHOP_CURRENCY", "USD")  # [apps.shop] env in server.toml

app = FastAPI(title="Shop")


class Item(BaseModel):
    """What the shop says about one thing it sells."""

    name: str
    price: float
    currency: str


@app.get("/")
async def items() -> list[str]:
    """List what is for sale."""
    return sorted(PRICES)


@app.get("/items/{name}")
async def item(name: str) -> Item:
    """Return one item with its price."""
    if name not in PRICES:
        raise HTTPException(404, f"no {name} for sale")
    return Item(name=name, price=PRICES[name], currency=CURRENCY)
