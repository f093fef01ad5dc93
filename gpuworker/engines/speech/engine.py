"""Speech: espeak-ng's languages and, where its library is found, flite's English voices.

A text is spoken sentence by sentence, each by a fresh copy of the library, so what a sentence sounds like depends on
nothing said before it: any worker makes the same bytes, and a stream goes on from the sentence that a checkpoint names.
The libraries live in helper processes (`speaker.py`); this module imports neither.
"""

import difflib
import functools
import json
import re
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from bus.sentences import sentences
from gpuworker.engine import (
    Block,
    Capabilities,
    Checkpoint,
    Determinism,
    Done,
    EngineJob,
    Estimate,
    Event,
    Mark,
    MemoryPolicy,
    Pcm,
    Progress,
    Rejected,
    Requirement,
    Resume,
    Voice,
)
from gpuworker.engines.speech import espeak, flite, ssml
from gpuworker.engines.speech.espeak_words import Words
from gpuworker.engines.speech.ssml import Part

RATE_HZ = espeak.RATE_HZ
_MAX_INPUT_CHARS = 200_000
_DEFAULTS: Mapping[str, Any] = {"speed": 1.0, "pitch": 50, "range": 50, "volume": 100}
_SCHEMA: Mapping[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "speed": {
            "type": "number",
            "minimum": 0.25,
            "maximum": 4,
            "default": 1.0,
            "description": "1 is 175 words per minute; espeak voices go no slower than 80 (0.46)",
        },
        "pitch": {
            "type": "number",
            "minimum": 0,
            "maximum": 100,
            "default": 50,
            "description": "0 is about an octave below the voice's own, 100 above",
        },
        "range": {
            "type": "number",
            "minimum": 0,
            "maximum": 100,
            "default": 50,
            "description": "how far the melody goes up and down, 0 is monotone; espeak voices only",
        },
        "volume": {"type": "number", "minimum": 0, "maximum": 200, "default": 100, "description": "per cent"},
    },
}
#: No control character but tab, newline and return; no half of a surrogate pair.
_UNSPEAKABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LIBRARY = Requirement(
    "antiphon[espeak]", module="espeakng_loader", otherwise=(Requirement("apt-get install libflite1", library="flite"),)
)
#: A checkpoint is due after so much audio: what a replacement has to make again, some tens of milliseconds' work.
_CHECKPOINT_FRAMES = 30 * RATE_HZ
#: The shortest answer: a text without any sound gets so much silence.
_SILENCE_FRAMES = RATE_HZ // 10
#: For estimates: speech has about 14 characters a second and takes about a hundredth of its length, start included.
_CHARS_PER_S, _COST_PER_S = 14, 0.01

#: (frames, 1), and the words that begin in it.
_Sound = tuple[Pcm, tuple[Mark, ...]]


class Speech:
    """The engine. Owns up to two helper processes, from `load` or a voice's first job to `unload`."""

    def __init__(self) -> None:
        self._espeak, self._flite = espeak.find_espeak(), flite.find_flite()
        self._espeak_speaker = espeak.speaker(self._espeak) if self._espeak else None
        self._flite_speaker = flite.speaker(self._flite) if self._flite else None

    def capabilities(self) -> Capabilities:
        return self._capabilities

    @functools.cached_property
    def _capabilities(self) -> Capabilities:
        voices: tuple[Voice, ...] = ()
        if self._espeak:
            voices += espeak.voices(self._espeak).listed()
        if self._flite:
            voices += self._flite.voices
        ids = {voice.id for voice in voices}
        licences = ["Apache-2.0"]
        licences += ["GPL-3.0-or-later"] if self._espeak else []
        licences += ["MIT-Festival"] if self._flite else []
        preferred = (espeak.DEFAULT_VOICE, flite.DEFAULT_VOICE)
        return Capabilities(
            name="speech",
            kind="speech",
            rate_hz=RATE_HZ,
            channels=1,
            resume=Resume.CHECKPOINT,
            determinism=Determinism.SAME_BUILD,
            param_schema=_SCHEMA,
            max_input_chars=_MAX_INPUT_CHARS,
            voices=voices,
            default_voice=next((voice for voice in preferred if voice in ids), next(iter(sorted(ids)), "")),
            licence=" AND ".join(licences),
            requires=(_LIBRARY,),
        )

    def validate(self, job: EngineJob) -> EngineJob:
        text = job.input
        if not text.strip():
            raise Rejected("input", "is blank")
        if len(text) > _MAX_INPUT_CHARS:
            raise Rejected("input", f"has {len(text)} characters, the limit is {_MAX_INPUT_CHARS}")
        if bad := _UNSPEAKABLE.search(text):
            raise Rejected("input", f"has the control character U+{ord(bad.group()):04X} at position {bad.start()}")
        voice = self._find_voice(job.voice or self._capabilities.default_voice)
        params = {**_DEFAULTS, **job.params}
        if self._is_flite(voice):
            if params["range"] != _DEFAULTS["range"]:
                raise Rejected("params.range", f"the voice {voice} cannot change its melody")
            if ssml.is_ssml(text):
                raise Rejected("input", f"is SSML, which the voice {voice} does not read")
        elif ssml.is_ssml(text):
            ssml.parts(text, self._in_document)
        return replace(job, voice=voice, params=params)

    def _find_voice(self, voice: str) -> str:
        if self._is_flite(voice.casefold()):
            return voice.casefold()
        found = espeak.voices(self._espeak).find(voice) if self._espeak else None
        if found is None:
            raise Rejected("voice", f"{voice!r} is not known{self._suggestion(voice)}")
        return found

    def _in_document(self, voice: str) -> bool:
        return self._espeak is not None and espeak.voices(self._espeak).in_document(voice)

    def _is_flite(self, voice: str) -> bool:
        return self._flite is not None and any(voice == offered.id for offered in self._flite.voices)

    def _suggestion(self, voice: str) -> str:
        names = [offered.id for offered in self._flite.voices] if self._flite else []
        language, plus, variant = voice.casefold().partition("+")
        if self._espeak:
            known = espeak.voices(self._espeak)
            if plus and known.find(language):
                close = difflib.get_close_matches(variant, known.variants, cutoff=0.4)
                return f"; close to it: {', '.join(f'{language}+{name}' for name in close)}" if close else ""
            names += known.names()
        close = difflib.get_close_matches(language, names)
        return f"; close to it: {', '.join(close)}" if close else ""

    def estimate(self, job: EngineJob, batch: int = 1) -> Estimate:
        speed: float = job.params.get("speed", _DEFAULTS["speed"])
        seconds = len(job.input) / _CHARS_PER_S / speed
        return Estimate(device_bytes=0, seconds=None, cost_s=0.005 + seconds * _COST_PER_S)

    def batch_key(self, job: EngineJob) -> Hashable | None:
        return None

    def load(self, device: str, policy: MemoryPolicy) -> None:
        """Start the default voice's library; it runs on the CPU, whatever `device` is.

        Raises:
            RuntimeError: no library is installed; the text says how to install one.
            SpeakerFailed: the library did not start.
        """
        speaker = self._espeak_speaker or self._flite_speaker
        if speaker is None:
            raise RuntimeError(
                "no speech library is installed: `pip install 'antiphon[espeak]'` brings espeak-ng (GPL-3.0-or-later); "
                "flite is used where the system has it (Debian's libflite1)"
            )
        speaker.start()

    def warm_up(self) -> None:
        for _ in self.generate([self.validate(EngineJob(id="warm-up", input="Ready."))]):
            continue

    def unload(self) -> None:
        for speaker in (self._espeak_speaker, self._flite_speaker):
            if speaker is not None:
                speaker.stop()

    def generate(self, jobs: Sequence[EngineJob]) -> Generator[tuple[int, Event], None, None]:
        """Jobs one after the other. Raises SpeakerFailed; the next job then gets a fresh helper process."""
        for index, job in enumerate(jobs):
            with closing(self._speak(job)) as events:
                for event in events:
                    if job.cancel.cancelled:
                        break
                    yield index, event

    def _speak(self, job: EngineJob) -> Generator[Event, None, None]:
        first_part, frame = _resumed(job)
        noted_frame = replayed_frame = frame
        for number, part in enumerate(self._parts(job)):
            if number < first_part or not part.text.strip():
                continue
            if frame - noted_frame >= _CHECKPOINT_FRAMES and frame >= job.start_frame:
                yield Checkpoint(frame, json.dumps({"part": number, "frame": frame}).encode())
                noted_frame = frame
            with closing(self._sound(job, part, frame)) as blocks:
                for block in blocks:
                    if frame + len(block.pcm) > job.start_frame:
                        yield block
                    elif frame - replayed_frame >= _CHECKPOINT_FRAMES:
                        yield Progress("replay", frame / RATE_HZ, job.start_frame / RATE_HZ)
                        replayed_frame = frame
                    frame += len(block.pcm)
        if frame < _SILENCE_FRAMES:
            yield Block(frame, np.zeros((_SILENCE_FRAMES - frame, 1), np.float32))
        yield Done({"voice": job.voice, **self._pace(job)})

    def _pace(self, job: EngineJob) -> Mapping[str, Any]:
        if self._is_flite(job.voice):
            return {}
        return {"words_per_minute": espeak.words_per_minute(job.params["speed"])}

    def _parts(self, job: EngineJob) -> Iterator[Part]:
        """What is spoken in one go, in order."""
        if ssml.is_ssml(job.input):
            yield from ssml.parts(job.input, self._in_document)
            return
        at = 0
        for text in sentences(job.input):
            yield Part(text, range(len(text)), at)
            at += len(text)

    def _sound(self, job: EngineJob, part: Part, frame: int) -> Generator[Block, None, None]:
        """One part, which begins at `frame`, as blocks of about 60 ms; the first one is marked as its beginning."""
        make = self._flite_sound if self._is_flite(job.voice) else self._espeak_sound
        marks: tuple[Mark, ...] = (part.mark(frame),)
        with closing(make(job, part, frame)) as sound:
            for pcm, words in sound:
                yield Block(frame, pcm, marks + words)
                marks, frame = (), frame + len(pcm)

    def _espeak_sound(self, job: EngineJob, part: Part, frame: int) -> Generator[_Sound, None, None]:
        assert self._espeak is not None
        assert self._espeak_speaker is not None
        native = espeak.voices(self._espeak).native(job.voice)
        is_document = ssml.is_ssml(part.text)
        request = {**espeak.request(native, job.params, job.seed), "text": part.text, "ssml": is_document}
        words = Words(part.text, is_document=is_document)
        with closing(self._espeak_speaker.say(request)) as chunks:
            for chunk, events in chunks:
                told = (
                    Mark(frame + word.frame, "word", part.original(word.start), word.length)
                    for word in words.told(events)
                    if word.start in part.body
                )
                pcm = np.frombuffer(chunk, "<i2").astype(np.float32) / np.float32(32768)
                yield pcm.reshape(-1, 1), tuple(told)

    def _flite_sound(self, job: EngineJob, part: Part, frame: int) -> Generator[_Sound, None, None]:
        """Without words: the library makes a sentence whole and tells no positions."""
        assert self._flite_speaker is not None
        readable = flite.readable(part.text)
        if not any(char.isalnum() for char in readable):
            return
        resampler = flite.Resampler()
        gain: float = job.params["volume"] / 100
        with closing(self._flite_speaker.say({**flite.request(job.voice, job.params), "text": readable})) as chunks:
            for chunk, _ in chunks:
                yield from _blocks(resampler.push(chunk) * gain)
        yield from _blocks(resampler.finish() * gain)


def _blocks(pcm: flite.Samples) -> Iterator[_Sound]:
    if len(pcm):
        yield pcm.clip(-1.0, 1.0).astype(np.float32).reshape(-1, 1), ()


def _resumed(job: EngineJob) -> tuple[int, int]:
    """The part to begin with and its first frame: the checkpoint's, else the beginning."""
    if job.checkpoint is None:
        return 0, 0
    note = json.loads(job.checkpoint)
    return (note["part"], note["frame"]) if note["frame"] <= job.start_frame else (0, 0)
