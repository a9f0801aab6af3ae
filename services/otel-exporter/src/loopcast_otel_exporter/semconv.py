"""
Every name that leaves in a span, log record or metric point: the only table of them.

Own names (`loop.*`) come first and are ours to keep. Beside them stand the GenAI conventions, pinned: they are all in
Development and will change, and then this file does. Version 1.42.0 is the first of
`open-telemetry/semantic-conventions-genai`.
"""

from __future__ import annotations

__all__ = ["SCHEMA_URL", "SCOPE", "VERSION", "provider_of"]

SCOPE = "loopcast.otel-exporter"
VERSION = "1"
"""Of the mapping: another number means that the same events give other bytes, so a checkpoint of it is not taken."""
SCHEMA_URL = "https://opentelemetry.io/schemas/gen-ai/1.42.0"

# Spans

WORKFLOW = "invoke_workflow"
AGENT = "invoke_agent"
TOOL = "execute_tool"
UNNAMED_AGENT = "agent"
UNNAMED_TOOL = "shell"
UNNAMED_LOOP = "unnamed"
UNNAMED_STATE = "unnamed"

# Own attributes

EXPERIMENT = "loop.experiment.id"
RUN = "loop.run.id"
PARENT_RUN = "loop.parent_run.id"
ATTEMPT = "loop.attempt"
CHAPTER = "loop.chapter"
CHAPTERS = "loop.chapters"
LOOP_NAME = "loop.name"
DEPTH = "loop.depth"
SPAN_TYPE = "loop.span_type"
IDENTITY = "loop.identity"
"""`derived` where the opening event was lost or nobody counted attempts."""
STATUS = "loop.status"
FINAL_STATUS = "loop.final_status"
FINAL_STATE = "loop.final_state"
TERMINATED_BY = "loop.terminated_by"
ITERATIONS = "loop.iterations"
LOOP_STARTED = "loop.started"
HANDOFF = "loop.handoff"
RESUMED_STATE = "loop.resume.from_state"
RESUMED_HANDOFF = "loop.resume.from_handoff"
CLOCK_SKEW = "loop.clock_skew"
MISSING = "loop.missing_events"
"""How many events of the run never came while its loop's span was open: numbered, and dropped before they were sent."""
CUT_SHORT = "loop.cut_short"
"""True on a span that had no end of its own: what is around it ended."""
STATE_NAME = "loop.state.name"
ITERATION = "loop.iteration"
ITERATION_COUNT = "loop.iteration_count"
NEXT_STATE = "loop.next_state"
IS_PROMPT = "loop.action.is_prompt"
ACTION_HASH = "loop.action.sha256"
DURATION_MS = "loop.action.duration_ms"
OUTPUT_LINES = "loop.output.lines"
OUTPUT_BYTES = "loop.output.bytes"
RELATION = "loop.link"
LATE_TYPE = "loop.late.event"

# Links

PREVIOUS_ATTEMPT = "previous_attempt"
PREVIOUS_CHAPTER = "previous_chapter"
CHAPTER_LINK = "chapter"
PARENT_RUN_LINK = "parent_run"
CALLER = "caller"

# Stable, or nearly

ERROR_TYPE = "error.type"
EXIT_CODE = "process.exit.code"
RECORD_UID = "log.record.uid"
IO_STREAM = "log.iostream"
SESSION = "session.id"

# GenAI 1.42.0, Development

OPERATION = "gen_ai.operation.name"
WORKFLOW_NAME = "gen_ai.workflow.name"
CONVERSATION = "gen_ai.conversation.id"
PROVIDER = "gen_ai.provider.name"
RESPONSE_MODEL = "gen_ai.response.model"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
"""Cached ones included, which Anthropic's own count leaves out."""
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
"""Dotted: arize-phoenix drops the spelling with an underscore."""
TOOL_NAME = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
TOOL_ARGUMENTS = "gen_ai.tool.call.arguments"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
EVALUATION = "gen_ai.evaluation.result"
EVALUATION_NAME = "gen_ai.evaluation.name"
EVALUATION_LABEL = "gen_ai.evaluation.score.label"
EVALUATION_VALUE = "gen_ai.evaluation.score.value"
EVALUATION_EXPLANATION = "gen_ai.evaluation.explanation"

# OpenInference, by which arize-phoenix draws

OPENINFERENCE_KIND = "openinference.span.kind"

_PROVIDERS = (
    ("claude", "anthropic"),
    ("gpt", "openai"),
    ("o1", "openai"),
    ("o3", "openai"),
    ("o4", "openai"),
    ("codex", "openai"),
    ("gemini", "gcp.gemini"),
    ("mistral", "mistral_ai"),
    ("deepseek", "deepseek"),
    ("grok", "x_ai"),
)


def provider_of(model: str) -> str | None:
    """The provider as the conventions spell it, from a model's name; events do not carry it."""
    name = model.rpartition("/")[2].lower()
    return next((provider for prefix, provider in _PROVIDERS if name.startswith(prefix)), None)
