"""What the producer is held against: FastAPI and aio-pika as their documentation has them, each event confirmed."""

import contextlib
import json
import os
import time
import uuid

import aio_pika
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

state: dict[str, aio_pika.abc.AbstractExchange] = {}


@contextlib.asynccontextmanager
async def lifespan(_: FastAPI):
    """One connection and one channel with confirms."""
    connection = await aio_pika.connect(os.environ["LOOPCAST_AMQP_URL"])
    async with connection:
        channel = await connection.channel(publisher_confirms=True)
        state["events"] = await channel.get_exchange("loopcast.events")
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/v1/experiments/{experiment}/events", status_code=202)
async def publish(experiment: str, request: Request) -> JSONResponse:
    """Publish one event or an array of them, and wait for the confirms."""
    data = await request.json()
    results = []
    for event in data if isinstance(data, list) else [data]:
        id_ = str(uuid.uuid4())
        envelope = {
            "specversion": "1.0",
            "id": id_,
            "source": f"/experiments/{experiment}/runs/r",
            "type": event["event"],
            "time": event["ts"],
            "experimentid": experiment,
            "data": event,
        }
        message = aio_pika.Message(
            json.dumps(envelope).encode(),
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            content_type="application/cloudevents+json",
            message_id=id_,
            timestamp=int(time.time()),
            headers={"experiment": experiment, "partition": 0},
        )
        await state["events"].publish(message, f"{experiment}.{event['event']}")
        results.append({"id": id_, "status": "accepted"})
    return JSONResponse({"accepted": len(results), "events": results}, 202)


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(os.environ["LOOPCAST_PORT"]), loop="uvloop", http="httptools",
        access_log=False, log_level="warning",
    )  # fmt: skip
