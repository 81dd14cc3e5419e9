"""Which clients get a blob: consents of registries, evidence, and turns of sources."""

from dataclasses import replace

from pantala_protocol.rules.rights import SECONDS, EvidenceKind, Right
from pantala_protocol.statement import CDNStatus, Failure
from pantala_protocol.sync import WantedBlob
from tests.support.blob_stage import DIGEST, LIAR, LIE, NAME, ONE, OTHER, TWO, URL, WANTED, BlobStage


def test_another_credential_needs_the_registrys_consent_which_counts_for_a_while(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", OTHER)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.fetchers)
    stage.proves(TWO, True)
    assert {"n1", "n2"} == stage.task.fetchers
    stage.say("n2")
    assert ({"n1"}, {"n1", "n2"}) == (stage.task.fetchers, stage.task.keepers)
    stage.now += SECONDS - 1
    stage.say("n2", OTHER)
    assert ([], {"n1", "n2"}) == (stage.asked, stage.task.fetchers)
    stage.say("n2")
    stage.now += 2
    stage.say("n2", OTHER)
    assert ([TWO], {"n1"}) == (stage.asked, stage.task.fetchers)


def test_c1_a_refused_client_is_not_admitted_and_not_asked_about_again(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", OTHER)
    stage.proves(TWO, False)
    stage.say("n2")
    stage.now += SECONDS - 1
    stage.say("n2", OTHER)
    stage.arrives(whole=True)
    assert ([], {"n1"}) == (stage.asked, stage.task.keepers)


def test_an_existing_copy_needs_the_consent_for_the_first_peer_too(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.arrives(whole=True, of=replace(ONE, client=""))
    assert ([ONE], set()) == (stage.asked, stage.task.fetchers)
    stage.proves(ONE, True)
    assert {"n1"} == stage.task.fetchers


def test_bytes_that_were_sent_for_another_client_are_no_evidence(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.say("n2", OTHER)
    stage.say("n1")
    stage.say("n2", OTHER)
    stage.arrives(of=ONE)
    assert ([TWO], set()) == (stage.asked, stage.task.fetchers)


def test_c1_wrong_bytes_give_no_right_to_the_right_ones(stage: BlobStage) -> None:
    stage.say("n2", LIAR)
    stage.arrives(generation="lie")
    assert {"n2"} == stage.task.fetchers  # it may have what its own registry sends
    stage.say("n1", WANTED)
    assert {"n2"} == stage.task.fetchers
    stage.fails("DigestMismatch")
    assert set() == stage.task.fetchers | stage.task.keepers
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]
    stage.arrives()
    stage.arrives(whole=True)
    assert ({"n1"}, {"n1"}) == (stage.task.fetchers, stage.task.keepers)
    stage.say("n2", LIAR)
    stage.say("n2")
    stage.now += SECONDS - 1
    stage.say("n2", LIAR)
    assert ({"n1"}, [], []) == (stage.task.fetchers, stage.asked, stage.proved)


def test_c1_a_repository_that_has_not_sent_a_blob_must_send_all_of_it(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.arrives()
    stage.say("n2", LIAR)
    assert ([], []) == (stage.asked, stage.proved)
    stage.arrives(whole=True)
    assert ([], [LIE], {"n1"}) == (stage.asked, stage.proved, stage.task.fetchers)
    stage.rights.grant(stage.rights.subject("liar.example/a", "Bearer liar"), DIGEST, EvidenceKind.ALLOWED, stage.now)
    stage.rights.grant(
        stage.rights.subject("liar.example/a", "Bearer liar"), DIGEST, EvidenceKind.ALLOWED, stage.now, generation="g"
    )
    stage.blobs.on_evidence(NAME)
    assert {"n1"} == stage.task.fetchers
    stage.shows(origins=(ONE.origin, LIE.origin))
    assert {"n1", "n2"} == stage.task.fetchers


def test_m7_a_silent_source_loses_its_turn_to_an_honest_one(stage: BlobStage) -> None:
    stage.say("n2", *[LIAR])
    stage.say("n1", WANTED)
    stage.now += 1
    stage.blobs.tick()
    assert LIE.url == stage.leases[-1].source.url  # type: ignore[union-attr]
    stage.now += 1
    stage.blobs.tick()
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]
    stage.now += 3
    stage.blobs.tick()
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]


def test_m7_a_source_that_makes_progress_keeps_its_turn(stage: BlobStage) -> None:
    stage.say("n2", LIAR)
    stage.say("n1", WANTED)
    for _ in range(10):
        stage.now += 1
        stage.received += 1024 * 1024
        stage.blobs.tick()
    assert LIE.url == stage.leases[-1].source.url  # type: ignore[union-attr]


def test_m7_the_repositories_of_one_peer_have_one_turn_together(stage: BlobStage) -> None:
    stage.blobs.ask("n2", LIAR, lambda _: None)
    for number in range(20):
        stage.blobs.ask("n2", replace_repository(f"a{number}"), lambda _: None)
    stage.say("n1", WANTED)
    stage.fails("DigestMismatch")
    assert URL == stage.leases[-1].source.url  # type: ignore[union-attr]


def replace_repository(name: str) -> WantedBlob:
    return WantedBlob("liar.example", name, DIGEST, credential="Bearer liar")


def test_m7_the_late_failure_of_another_client_is_not_blamed_on_the_present_one(stage: BlobStage) -> None:
    stage.say("n1", WANTED)
    stage.say("n1", OTHER)
    stage.shows(failed_source=ONE, failure=Failure("SourceUnauthorized", "no", final=True), status=CDNStatus.FAILED)
    stage.say("n1", OTHER)
    assert "Bearer two" == stage.leases[-1].source.headers["Authorization"]  # type: ignore[union-attr]
    stage.arrives()
    assert {"n1"} == stage.task.fetchers


def test_a_question_is_answered_once_there_is_evidence(stage: BlobStage) -> None:
    answers: list[Right | None] = []
    stage.blobs.ask("n1", WANTED, answers.append)
    assert 1 == len(stage.leases)
    stage.arrives()
    assert [("g", stage.now + SECONDS)] == [(right.generation, right.until) for right in answers if right]
    stage.blobs.ask("n1", OTHER, answers.append)
    assert 1 == len(answers)
    stage.proves(TWO, False)
    assert [None] == answers[1:]
    stage.blobs.ask("n2", OTHER, answers.append)
    assert [None, None] == answers[1:]
