"""The producer: takes events over HTTP and publishes them to RabbitMQ, answering only after the broker confirmed."""
