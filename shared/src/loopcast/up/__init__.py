"""`loopcast up`: a private RabbitMQ node and every service on one machine, in one terminal."""
