"""Faults of a cloud's identity are named with the step and the remedy."""

import json
import traceback
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web

from pantala_supernode.registry import errors
from tests.support.cloud_lab import CloudLab
from tests.support.cloud_stage import CLOUDS, refusal, resolve
from tests.support.cloud_stage import lab as lab
from tests.support.clouds import ECR, PKG, ROLE

# -- failures


REFUSED, INVALID = errors.CloudIdentityError, errors.InvalidAnswerError
FAULTS: list[tuple[int, str, web.Response, type[errors.RegistryError], str]] = [
    (0, "sts", refusal(403, "<E><Code>AccessDenied</Code></E>"), REFUSED, rf"{ROLE}.*AccessDenied.*trust"),
    (0, "sts", refusal(400, "<E><Code>ExpiredToken</Code></E>"), REFUSED, "ExpiredToken"),
    (0, "sts", refusal(200, "<html>"), INVALID, "AWS STS"),
    (0, "sts", refusal(200, "<a><Credentials><AccessKeyId>x</AccessKeyId></Credentials></a>"), INVALID, "STS"),
    (0, "sts", refusal(503, ""), errors.RegistryFailedError, "AWS STS"),
    (0, "ecr", refusal(400, '{"__type":"AccessDeniedException"}'), REFUSED, "ecr:GetAuthorizationToken"),
    (0, "ecr", refusal(200, "{}"), INVALID, "Amazon ECR"),
    (0, "ecr", refusal(200, '{"authorizationData":[]}'), INVALID, "Amazon ECR"),
    (1, "google", refusal(400, '{"error":"invalid_grant"}'), REFUSED, "invalid_grant.*pool"),
    (1, "google", refusal(200, '{"access_token":null}'), INVALID, "token service"),
    (1, "iam", refusal(403, '{"error":{"status":"PERMISSION_DENIED"}}'), REFUSED, "workloadIdentityUser"),
    (1, "iam", refusal(200, '{"accessToken":"x","expireTime":"soon"}'), INVALID, "IAM"),
    (3, "entra", refusal(401, '{"error":"invalid_client"}'), REFUSED, "invalid_client.*federated credential"),
    (3, "entra", refusal(429, ""), errors.RateLimitedError, "Entra"),
    (3, "entra", refusal(200, "[]"), INVALID, "Entra"),
]


@pytest.mark.parametrize(("cloud", "step", "fault", "expected", "text"), FAULTS)
async def test_a_failed_exchange_is_named_with_the_step_and_the_remedy(
    lab: CloudLab, cloud: int, step: str, fault: web.Response, expected: type[errors.RegistryError], text: str
) -> None:
    name, environment, _, _ = CLOUDS[cloud]
    registry = await lab.registry(name)
    lab.world.faults[step] = fault
    async with lab.service(environment(lab)) as opened:
        with pytest.raises(expected, match=text) as caught:
            await resolve(opened, registry)
        assert expected is type(caught.value)
    token = (lab.world.folder / "token").read_text().strip()
    shown = "".join(traceback.format_exception(caught.value))
    assert name in shown
    assert not [secret for secret in (token, *lab.world.issued) if secret in shown]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"subject": "system:serviceaccount:default:other"}, "refused the supernode's identity"),
        ({"seconds": -1.0}, "refused the supernode's identity"),
        ({"audience": "another"}, "refused the supernode's identity"),
    ],
)
@pytest.mark.parametrize("cloud", [0, 1, 3])
async def test_a_token_of_another_account_or_audience_is_refused(
    lab: CloudLab, cloud: int, change: Mapping[str, object], text: str
) -> None:
    name, environment, _, _ = CLOUDS[cloud]
    registry = await lab.registry(name)
    variables = environment(lab)
    audiences = {0: "sts.amazonaws.com", 1: "pool-audience", 3: "api://AzureADTokenExchange"}
    lab.world.write_token(**{"audience": audiences[cloud], **change})  # type: ignore[arg-type]
    async with lab.service(variables) as opened:
        with pytest.raises(errors.CloudIdentityError, match=text):
            await resolve(opened, registry)


@pytest.mark.parametrize(
    "content", [None, b"", b"\n", b"two\nlines", b"\xff\xfe", b"x" * 40_000, "ü".encode(), b"a\tb"]
)
@pytest.mark.parametrize("cloud", [0, 1, 3])
async def test_an_unusable_token_file_is_named(lab: CloudLab, cloud: int, content: bytes | None) -> None:
    name, environment, _, _ = CLOUDS[cloud]
    registry, variables, file = await lab.registry(name), environment(lab), lab.world.folder / "token"
    file.unlink() if content is None else file.write_bytes(content)
    async with lab.service(variables) as opened:
        with pytest.raises(errors.CloudIdentityError, match=str(file)):
            await resolve(opened, registry)
    assert [] == lab.tokens.asked


@pytest.mark.parametrize(
    "configuration",
    [
        None,
        "<html>",
        "{}",
        '{"type": "service_account", "private_key": "secret-key"}',
        '{"type": "external_account"}',
        '{"type": "external_account", "token_url": "https://x", "credential_source": {"url": "http://169.254.169.254"}}',
        '{"type": "external_account", "credential_source": {"file": "/x"}}',
        '{"type": "external_account", "token_url": 5, "credential_source": {"file": "/x"}}',
    ],
)
async def test_an_unusable_configuration_of_google_is_named(lab: CloudLab, configuration: str | None) -> None:
    registry, variables = await lab.registry(PKG), lab.google()
    file = Path(variables["GOOGLE_APPLICATION_CREDENTIALS"])
    file.unlink() if configuration is None else file.write_text(configuration)
    async with lab.service(variables) as opened:
        with pytest.raises(errors.CloudIdentityError, match=str(file)) as caught:
            await resolve(opened, registry)
    assert "secret-key" not in str(caught.value)


async def test_a_token_inside_a_json_file_is_found(lab: CloudLab) -> None:
    registry, variables = await lab.registry(PKG), lab.google()
    file = Path(variables["GOOGLE_APPLICATION_CREDENTIALS"])
    configuration = json.loads(file.read_text())
    token = Path(configuration["credential_source"]["file"])
    configuration["credential_source"]["format"] = {"type": "json", "subject_token_field_name": "access"}
    file.write_text(json.dumps(configuration))
    token.write_text(json.dumps({"access": token.read_text().strip()}))
    async with lab.service(variables) as opened:
        await resolve(opened, registry)


async def test_without_an_identity_a_private_image_needs_a_secret(lab: CloudLab) -> None:
    registry = await lab.registry(ECR)
    async with lab.service({"AWS_REGION": "eu-west-1", "AWS_ROLE_ARN": ROLE}) as opened:
        with pytest.raises(errors.RegistryUnauthorizedError, match="requires credentials"):
            await resolve(opened, registry)


async def test_a_wrong_clock_is_named(lab: CloudLab, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, real = await lab.registry(ECR), lab.world.wall
    async with lab.service(lab.irsa()) as opened:
        monkeypatch.setattr(lab.world, "wall", lambda: real() - 1200)
        with pytest.raises(errors.CloudIdentityError, match=r"InvalidSignatureException.*clock"):
            await resolve(opened, registry)
