"""The checks of a job that hold for every engine, so that no engine has to repeat them."""

from dataclasses import replace

from bus.params import check
from bus.ssml import is_document
from gpuworker.engine import Capabilities, Engine, EngineJob, Rejected


def admit(engine: Engine, job: EngineJob) -> EngineJob:
    """`job` as `generate` takes it: checked by what its engine declares, with its defaults, and validated by it.

    Raises:
        Invalid: `params` break the engine's schema.
        Rejected: the input is blank, too long, or SSML that the engine does not read; or there is a voice and the
            engine has none, or another one of that name than the job was accepted with; or the engine refuses it.
    """
    capabilities = engine.capabilities()
    schema, limit = dict(capabilities.param_schema), capabilities.max_input_chars
    if not job.input.strip():
        raise Rejected("input", "is blank")
    if len(job.input) > limit:
        raise Rejected("input", f"has {len(job.input)} characters, the limit is {limit}")
    if capabilities.kind == "speech" and not capabilities.ssml and is_document(job.input):
        raise Rejected("input", f"is SSML, which the voices of {capabilities.name} do not read")
    is_installed = job.voice.partition("+")[0] in job.voice_files
    if job.voice and not capabilities.voices and not is_installed:
        raise Rejected("voice", f"{capabilities.name} has no voices, not {job.voice!r}")
    if not is_installed and (accepted := job.voice_digests.get(job.voice)):
        _check_digest(job.voice, accepted, capabilities)
    check(schema, job.params)
    rules = schema.get("properties", {})
    defaults = {name: rule["default"] for name, rule in rules.items() if "default" in rule}
    return engine.validate(replace(job, params={**defaults, **job.params}))


def _check_digest(name: str, accepted: str, capabilities: Capabilities) -> None:
    names = {name, name.partition("+")[0]}
    here = next((voice.sha256 for voice in capabilities.voices if voice.id in names), "")
    if here != accepted:
        raise Rejected(
            "voice",
            f"{name!r} has SHA-256 {here or 'unknown'} on this worker, and the job was accepted with {accepted[:64]!r}",
        )
