"""The Open Inference Protocol (KServe v2), with the unmodified Triton client and with handwritten bodies."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from alterbute.images import load_photo
from tritonclient.utils import InferenceServerException

from tests.support.serving import RunningServer, mask_array, mask_bytes, photo_bytes


@pytest.fixture
def client(server: RunningServer) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(f"127.0.0.1:{server.port}")


def tensor(name: str, array: Any, datatype: str, *, binary: bool = True) -> triton.InferInput:
    """An input tensor of an array, sent as raw bytes or as JSON."""
    infer_input = triton.InferInput(name, list(array.shape), datatype)
    infer_input.set_data_from_numpy(array, binary_data=binary)
    return infer_input


def text(value: bytes) -> Any:
    """A BYTES array of one element."""
    return np.array([value], dtype=object)


def array_inputs() -> list[triton.InferInput]:
    """Inputs of an edit whose pictures are UINT8 arrays."""
    return [
        tensor("IMAGE", load_photo(photo_bytes()).pixels, "UINT8"),
        tensor("MASK", mask_array(), "UINT8"),
        tensor("PROMPT", text(b"color: red"), "BYTES"),
        tensor("SEED", np.array([7], np.int64), "INT64"),
        tensor("STEPS", np.array([3], np.int32), "INT32"),
        tensor("GUIDANCE", np.array([1.5], np.float32), "FP32"),
    ]


def openai_pixels(server: RunningServer) -> Any:
    """Pixels of the same edit through `/v1/images/edits`."""
    files = {"image": ("a.png", photo_bytes()), "mask": ("m.png", mask_bytes())}
    data = {"prompt": "color: red", "seed": "7", "num_inference_steps": "3", "guidance_scale": "1.5"}
    reply = httpx.post(f"{server.url}/v1/images/edits", files=files, data=data)
    return load_photo(base64.b64decode(reply.json()["data"][0]["b64_json"])).pixels


def test_health_and_metadata_of_the_triton_client(client: triton.InferenceServerClient, server: RunningServer) -> None:
    name = server.context.model
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(name)
    assert client.is_model_ready(name, "1")
    assert client.get_server_metadata()["name"] == "alterbute"
    metadata = client.get_model_metadata(name)
    assert {entry["name"] for entry in metadata["inputs"]} >= {"IMAGE", "MASK", "PROMPT", "SEED", "STEPS", "GUIDANCE"}
    assert [entry["name"] for entry in metadata["outputs"]] == ["IMAGE", "SEED_USED", "TIMINGS_MS"]
    with pytest.raises(InferenceServerException, match="not served"):
        client.get_model_metadata("another")
    assert not client.is_model_ready("another")


def test_arrays_and_files_give_the_same_edit_as_the_openai_route(
    client: triton.InferenceServerClient, server: RunningServer
) -> None:
    name, expected = server.context.model, openai_pixels(server)
    result = client.infer(name, array_inputs(), request_id="mine")
    assert np.array_equal(result.as_numpy("IMAGE"), expected)
    assert result.as_numpy("SEED_USED").tolist() == [7]
    assert result.as_numpy("TIMINGS_MS").shape == (5,)
    assert result.get_response()["id"] == "mine"
    files = [
        tensor("IMAGE", text(photo_bytes()), "BYTES"),
        tensor("MASK", text(mask_bytes()), "BYTES"),
        *array_inputs()[2:],
    ]
    assert np.array_equal(client.infer(name, files).as_numpy("IMAGE"), expected)
    outputs = [triton.InferRequestedOutput("IMAGE", binary_data=False)]
    as_json = client.infer(name, array_inputs(), outputs=outputs, model_version="1")
    assert np.array_equal(as_json.as_numpy("IMAGE"), expected)
    assert as_json.as_numpy("SEED_USED") is None


def test_json_with_pictures_in_base64_gives_the_same_edit(server: RunningServer) -> None:
    def bytes_input(name: str, value: str) -> dict[str, Any]:
        return {"name": name, "shape": [1], "datatype": "BYTES", "data": [value]}

    body = {
        "inputs": [
            bytes_input("IMAGE", base64.b64encode(photo_bytes()).decode()),
            bytes_input("MASK", base64.b64encode(mask_bytes()).decode()),
            bytes_input("PROMPT", "color: red"),
            {"name": "SEED", "shape": [1], "datatype": "INT64", "data": [7]},
        ],
        "parameters": {"num_inference_steps": 3, "guidance_scale": 1.5},
    }
    reply = httpx.post(f"{server.url}/v2/models/{server.context.model}/infer", json=body).json()
    image = next(output for output in reply["outputs"] if output["name"] == "IMAGE")
    pixels = np.array(image["data"], np.uint8).reshape(image["shape"])
    assert np.array_equal(pixels, openai_pixels(server))


MALFORMED: dict[str, Any] = {
    "not an object": [],
    "no inputs": {},
    "unknown key": {"inputs": [], "sequence": 1},
    "inputs is a number": {"inputs": 3},
    "too many inputs": {"inputs": [{"name": str(number)} for number in range(17)]},
    "no name": {"inputs": [{"shape": [1]}]},
    "negative size": {"inputs": [{"name": "SEED", "shape": [-1], "datatype": "INT64", "data": [1]}]},
    "size of 2^31": {"inputs": [{"name": "SEED", "shape": [2**31], "datatype": "INT64", "data": [1]}]},
    "size of 2^63": {"inputs": [{"name": "SEED", "shape": [2**63], "datatype": "INT64", "data": [1]}]},
    "huge product": {"inputs": [{"name": "IMAGE", "shape": [2**30, 2**30, 3], "datatype": "UINT8", "data": [1]}]},
    "size is a flag": {"inputs": [{"name": "SEED", "shape": [True], "datatype": "INT64", "data": [1]}]},
    "five dimensions": {"inputs": [{"name": "SEED", "shape": [1] * 5, "datatype": "INT64", "data": [1]}]},
    "unknown datatype": {"inputs": [{"name": "SEED", "shape": [1], "datatype": "FP16", "data": [1]}]},
    "text for a number": {"inputs": [{"name": "SEED", "shape": [1], "datatype": "INT64", "data": ["1"]}]},
    "float for an integer": {"inputs": [{"name": "SEED", "shape": [1], "datatype": "INT64", "data": [1.5]}]},
    "300 for a byte": {"inputs": [{"name": "IMAGE", "shape": [1], "datatype": "UINT8", "data": [300]}]},
    "a seed of 2^70": {"inputs": [{"name": "SEED", "shape": [1], "datatype": "INT64", "data": [2**70]}]},
    "deep nesting": {"inputs": [{"name": "SEED", "shape": [1], "datatype": "INT64", "data": [[[[[[[1]]]]]]]}]},
    "too few values": {"inputs": [{"name": "SEED", "shape": [2], "datatype": "INT64", "data": [1]}]},
    "bytes that are not there": {
        "inputs": [{"name": "SEED", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": 8}}]
    },
    "a negative byte count": {
        "inputs": [{"name": "SEED", "shape": [1], "datatype": "INT64", "parameters": {"binary_data_size": -8}}]
    },
    "unknown input": {"inputs": [{"name": "LATENT", "shape": [1], "datatype": "INT64", "data": [1]}]},
    "given twice": {"inputs": [{"name": "SEED", "shape": [1], "datatype": "INT64", "data": [1]}] * 2},
    "a long id": {"id": "x" * 10_000, "inputs": []},
    "unknown parameter": {"inputs": [], "parameters": {"sequence_id": 3}},
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_body_is_a_400_with_a_string(server: RunningServer, body: Any) -> None:
    reply = httpx.post(f"{server.url}/v2/models/{server.context.model}/infer", json=body)
    assert reply.status_code == 400
    assert list(reply.json()) == ["error"]
    assert isinstance(reply.json()["error"], str)


@pytest.mark.parametrize("length", ["-1", "0", "99999999999", "1e3", "x", "9999"])
def test_a_wrong_header_length_is_refused(server: RunningServer, length: str) -> None:
    url = f"{server.url}/v2/models/{server.context.model}/infer"
    reply = httpx.post(url, content=json.dumps({"inputs": []}), headers={"Inference-Header-Content-Length": length})
    assert reply.status_code == 400


def test_invalid_json_is_refused(server: RunningServer) -> None:
    url = f"{server.url}/v2/models/{server.context.model}/infer"
    for content in (
        b"",
        b"{",
        b"\xff\xfe",
        b'{"inputs": [NaN]}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"id": ' + b"9" * 5000 + b"}",
    ):
        assert httpx.post(url, content=content).status_code == 400, content[:20]


def test_a_path_as_model_name_is_a_404(server: RunningServer) -> None:
    for name in ("..%2f..%2fetc", "%00", "a%e2%88%95b", "x" * 5000, "....//"):
        assert httpx.get(f"{server.url}/v2/models/{name}").status_code == 404
        assert httpx.get(f"{server.url}/v1/models/{name}").status_code == 404
