"""Exit codes, and the mapping of errors to them: 2 is yours to fix, 3 the infrastructure's, 70 a bug of ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

CONFIG = 2
INFRASTRUCTURE = 3
BUG = 70


def fail(code: int, message: str) -> NoReturn:
    print(f"upwell: {message}", file=sys.stderr)
    sys.exit(code)


@contextmanager
def mapped(step: str) -> Iterator[None]:
    """Turn the errors that a step is known to raise into one clear line and the right code; a bug keeps its trace."""
    import psycopg
    from confluent_kafka import KafkaError, KafkaException

    from upwell.bus.errors import BusError, Inconsistent, TooManyRefused
    from upwell.inference.errors import InferenceUnavailable, ModelChanged
    from upwell.settings import ConfigError

    try:
        yield
    except ConfigError as error:
        fail(CONFIG, str(error))
    except (Inconsistent, ModelChanged, TooManyRefused) as error:
        fail(CONFIG, f"{step}: {error}")
    except KafkaException as error:
        # What librdkafka says of an option that it does not know, or of a value that it cannot take.
        said = error.args[0] if error.args else None
        if isinstance(said, KafkaError) and said.code() == KafkaError._INVALID_ARG:
            fail(CONFIG, f"{step}: kafka options: {said.str().strip()}")
        fail(INFRASTRUCTURE, f"{step}: {error}")
    except (BusError, psycopg.OperationalError, InferenceUnavailable) as error:
        fail(INFRASTRUCTURE, f"{step}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:
        import structlog

        structlog.get_logger("upwell").exception("bug", step=step)
        sys.exit(BUG)
