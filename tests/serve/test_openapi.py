"""The OpenAPI description, and that the server conforms to it."""

import pytest
from colored import draw, encode

from atrous.serve.errors import STATUSES

PIXELS, _ = draw(8, 8)
MEDIA_TYPES = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff"]


def test_the_description_is_complete_and_refers_to_no_other_host(serve):
    description = serve(token="t").client.get(
        "/openapi.json", headers={"authorization": "Bearer t"}
    )
    segment = description.json()["paths"]["/v1/segment"]["post"]
    assert set(segment["responses"]) == {"200", *map(str, STATUSES)}
    assert set(segment["requestBody"]["content"]) == {"multipart/form-data", *MEDIA_TYPES}
    assert "ErrorResponse" in str(segment["responses"]["422"])
    assert segment["responses"]["429"]["headers"]["Retry-After"]["required"]
    assert "://" not in description.text


def test_the_server_conforms_to_its_description(serve):
    schemathesis = pytest.importorskip("schemathesis", reason="this test needs schemathesis")
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from schemathesis import checks
    from schemathesis.specs.openapi import checks as openapi_checks

    running = serve()
    base_url = f"http://127.0.0.1:{running.port}"
    png = encode(PIXELS)
    for media_type in MEDIA_TYPES:
        schemathesis.openapi.media_type(media_type, st.just(png) | st.binary(max_size=200))
    schema = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    kept = [
        checks.not_a_server_error,
        openapi_checks.status_code_conformance,
        openapi_checks.content_type_conformance,
        openapi_checks.response_headers_conformance,
        openapi_checks.response_schema_conformance,
    ]
    statuses = set()
    for result in schema.get_all_operations():
        strategy = result.ok().as_strategy()

        @settings(
            max_examples=40, deadline=None, database=None, derandomize=True,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=strategy)
        def check(case):
            response = case.call(base_url=base_url)
            statuses.add(response.status_code)
            case.validate_response(response, checks=kept)

        check()
    assert statuses >= {200, 415}
