"""Clients that generators make from `/openapi.json`: they are complete, they type check, and sound comes."""

import shutil
from pathlib import Path

import aiohttp
import pytest

from tests.support import fleets
from tests.support.doors import wav_head_bytes
from tests.support.environments import node_with, python_with, ran
from tests.support.fleets import Stack

pytestmark = pytest.mark.slow

stack = fleets.stack("tone", 2)
http = fleets.http()

#: Bytes of a WAV of half a second of the tone, whose job has a derived id.
WAV_BYTES = wav_head_bytes("c" + 40 * "0") + 24_000
#: The generator has no type for these; as in docs/http.md.
OVERRIDES = """\
content_type_overrides:
  "audio/*": application/octet-stream
  audio/wav: application/octet-stream
  application/x-ndjson: application/octet-stream
  text/event-stream: text/plain
post_hooks: []
"""
WITH_PYTHON_CLIENT = """\
import sys
from antiphon_client import Client, models
from antiphon_client.api.openai import post_audio_speech
params = models.OpenAISpeechRequestParams.from_dict({"seconds": 0.5})
body = models.OpenAISpeechRequest(input_="x", model="tone", params=params, response_format="wav")
with Client(base_url=sys.argv[1]) as client:
    print(len(post_audio_speech.sync_detailed(client=client, body=body).parsed.payload.read()))
"""
WITH_PYTHON = """\
import sys
import antiphon_client as made
with made.ApiClient(made.Configuration(host=sys.argv[1])) as client:
    body = made.OpenAISpeechRequest(input="x", model="tone", params={"seconds": 0.5}, response_format="wav")
    print(len(made.OpenaiApi(client).post_audio_speech(body)))
"""
WITH_TYPESCRIPT_FETCH = """\
import { Configuration, OpenaiApi } from "./made";
declare const process: { argv: string[] };
async function main() {
  const api = new OpenaiApi(new Configuration({ basePath: process.argv[2] }));
  const body = { input: "x", model: "tone", params: { seconds: 0.5 }, responseFormat: "wav" as const };
  const sound: Blob = await api.postAudioSpeech({ openAISpeechRequest: body });
  console.log(sound.size);
}
main();
"""
WITH_OPENAPI_FETCH = """\
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";
declare const process: { argv: string[] };
const body: components["schemas"]["OpenAISpeechRequest"] = {
  input: "x", model: "tone", params: { seconds: 0.5 }, response_format: "wav",
};
async function main() {
  const client = createClient<paths>({ baseUrl: process.argv[2] });
  const { data, error } = await client.POST("/v1/audio/speech", { body, parseAs: "arrayBuffer" });
  console.log(data ? data.byteLength : JSON.stringify(error));
}
main();
"""
STRICT = ["--strict", "--skipLibCheck", "--target", "es2022", "--lib", "es2022,dom"]


@pytest.fixture
async def document(http: aiohttp.ClientSession, tmp_path: Path) -> Path:
    async with http.get("/openapi.json") as answer:
        (tmp_path / "openapi.json").write_bytes(await answer.read())
    return tmp_path / "openapi.json"


def test_openapi_python_client_leaves_nothing_out_and_fetches_sound(
    document: Path, stack: Stack, tmp_path: Path
) -> None:
    python = python_with(tmp_path / "env", "openapi-python-client==0.29.1")
    (tmp_path / "config.yml").write_text(OVERRIDES)
    made = tmp_path / "made"
    command = [python.parent / "openapi-python-client", "generate", "--path", document, "--output-path", made]
    printed = ran([*command, "--config", tmp_path / "config.yml"], tmp_path)
    assert "WARNING" not in printed, printed
    assert int(ran([python, "-c", WITH_PYTHON_CLIENT, stack.url], made)) == WAV_BYTES


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with `openapi-generator-cli`, which brings its jar."""
    if shutil.which("java") is None:
        pytest.skip("java is not installed")
    return python_with(tmp_path_factory.mktemp("generator") / "env", "openapi-generator-cli==7.26.0")


def generate(generator: Path, document: Path, kind: str, folder: Path, *more: str) -> None:
    command = [generator.parent / "openapi-generator-cli", "generate", "-i", document, "-g", kind, "-o", folder]
    ran([*command, *more], folder.parent, 300)


def test_openapi_generator_makes_a_python_client_that_fetches_sound(
    generator: Path, document: Path, stack: Stack, tmp_path: Path
) -> None:
    made = tmp_path / "made"
    generate(generator, document, "python", made, "-p", "packageName=antiphon_client")
    ran([generator, "-m", "pip", "install", "--quiet", "-r", made / "requirements.txt"], tmp_path, 300)
    assert int(ran([generator, "-c", WITH_PYTHON, stack.url], made)) == WAV_BYTES


def test_openapi_generator_makes_a_typescript_client_that_type_checks_and_fetches_sound(
    generator: Path, document: Path, stack: Stack, tmp_path: Path
) -> None:
    node = node_with(tmp_path / "node", "typescript@5.9.3")
    generate(generator, document, "typescript-fetch", node / "made")
    (node / "use.ts").write_text(WITH_TYPESCRIPT_FETCH)
    options = [*STRICT, "--module", "commonjs", "--moduleResolution", "node10"]
    ran([node / "node_modules/.bin/tsc", *options, "use.ts"], node)
    assert int(ran(["node", "use.js", stack.url], node)) == WAV_BYTES


def test_openapi_typescript_makes_types_that_take_params_and_fetch_sound(
    document: Path, stack: Stack, tmp_path: Path
) -> None:
    node = node_with(tmp_path / "node", "typescript@5.9.3", "openapi-typescript@7.13.0", "openapi-fetch@0.17.0")
    options = ["--default-non-nullable", "false"]
    ran([node / "node_modules/.bin/openapi-typescript", document, "-o", "schema.d.ts", *options], node)
    (node / "use.ts").write_text(WITH_OPENAPI_FETCH)
    ran([node / "node_modules/.bin/tsc", *STRICT, "--module", "nodenext", "use.ts"], node)
    assert int(ran(["node", "use.js", stack.url], node)) == WAV_BYTES
