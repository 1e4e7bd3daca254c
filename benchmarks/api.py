"""A FastAPI application, as most people write them: validation of a query parameter, JSON in the answer."""

from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def read_item(number: int = 42, text: str = "a thing") -> dict[str, int | str | list[int]]:
    """Answer with what was asked for."""
    return {"number": number, "text": text, "parts": [1, 2, 3]}
