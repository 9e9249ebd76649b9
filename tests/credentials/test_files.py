"""The vendors' own key files: each form of them, and files that are something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpubroker.catalog.clouds import cloud
from gpubroker.credentials.files import KEY_FILES, KeyFile, read


@pytest.mark.parametrize(
    ("file", "text", "secrets"),
    [
        (KEY_FILES["vast_ai"][1], " sesame\n", ("sesame",)),
        (KEY_FILES["runpod"][0], 'apikey = "sesame"\napiurl = "x"\n', ("sesame",)),
        (KEY_FILES["runpod"][0], 'apiKey = "sesame"\n', ("sesame",)),
        (KEY_FILES["runpod"][1], '[default]\napi_key = "sesame"\n', ("sesame",)),
        (KEY_FILES["lambda_labs"][0], "api_key = sesame\n", ("sesame",)),
        (KEY_FILES["lyceum"][0], '{"api_key": "sesame"}', ("sesame",)),
        (
            KEY_FILES["verda"][0],
            "[default]\nverda_client_id = one\nverda_client_secret = two\n",
            ("one", "two"),
        ),
    ],
)
def test_each_form_is_read(
    tmp_path: Path, file: KeyFile, text: str, secrets: tuple[str, ...]
) -> None:
    path = tmp_path / "file"
    path.write_text(text)
    assert read(file, path) == secrets


@pytest.mark.parametrize("content", [b"", b"[default]\n", b"\xff\xfe", b"[[[", b'{"api_key": 1}'])
@pytest.mark.parametrize("name", ["runpod", "lambda_labs", "lyceum", "verda"])
def test_what_holds_no_key_is_no_error(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert read(KEY_FILES[name][0], path) == ()
    assert read(KEY_FILES[name][0], tmp_path / "absent") == ()


def test_a_file_has_a_field_for_each_secret_of_its_cloud() -> None:
    for name, files in KEY_FILES.items():
        for file in files:
            wanted = len(cloud(name).credentials)
            assert len(file.fields) == wanted if file.form != "text" else wanted == 1


@pytest.mark.parametrize(
    ("environ", "where"),
    [({}, "home/.config/vastai"), ({"XDG_CONFIG_HOME": "/elsewhere"}, "/elsewhere/vastai")],
)
def test_the_configuration_folder_can_be_moved(environ: dict[str, str], where: str) -> None:
    path = KEY_FILES["vast_ai"][0].at(environ, Path("home"))
    assert path == Path(where) / "vast_api_key"
