import pickle
from typing import cast

import pytest

from broker.publish.outputs import Framing, Outputs, Packet, TopicRule, word


def test_public_and_restricted_topics_of_a_survey():
    outputs = Outputs(prefix="night")
    assert outputs.all_topic("ztf", "public") == "night.ztf.all"
    assert outputs.class_topic("ztf", "public", "lightcurve", "SLSN-I") == "night.ztf.lightcurve.slsn-i"
    assert outputs.all_topic("ztf", "partnership") == "night.ztf.restricted.all"
    assert outputs.class_topic("ztf", "", "stamps", "SN") == "night.ztf.restricted.stamps.sn"


@pytest.mark.parametrize("name", ["restricted", "All", "deadletters"])
def test_a_model_cannot_take_the_name_of_another_kind_of_topic(name):
    with pytest.raises(ValueError, match="cannot be called"):
        Outputs().class_topic("ztf", "public", name, "SN")


def test_by_default_all_is_full_and_classes_are_slim():
    outputs = Outputs()
    assert outputs.rule("rayfinch.ztf.all") == TopicRule("full", "plain")
    assert outputs.rule("rayfinch.ztf.stamps.sn") == TopicRule("slim", "plain")
    assert outputs.rule("rayfinch.ztf.restricted.all") == TopicRule("full", "plain")


def test_the_first_matching_topic_rule_wins_and_holds_for_the_restricted_twin():
    fink, bare = TopicRule("full", "fink"), TopicRule("no-cutouts")
    outputs = Outputs(topics={"ztf.stamps.sn": fink, "*.stamps.*": bare})
    assert outputs.rule("rayfinch.ztf.stamps.sn") == fink
    assert outputs.rule("rayfinch.ztf.restricted.stamps.sn") == fink
    assert outputs.rule("rayfinch.lsst.stamps.agn") == bare
    assert outputs.rule("rayfinch.lsst.lightcurve.ia") == TopicRule("slim")


def test_a_restricted_topic_can_be_named_itself():
    outputs = Outputs(topics={"ztf.restricted.all": TopicRule("slim"), "ztf.all": TopicRule("no-cutouts")})
    assert outputs.rule("rayfinch.ztf.restricted.all") == TopicRule("slim")
    assert outputs.rule("rayfinch.ztf.all") == TopicRule("no-cutouts")


def test_rules_travel():
    outputs = Outputs(thresholds={"stamps": 0.9}, topics={"ztf.all": TopicRule("slim", "fink")})
    assert pickle.loads(pickle.dumps(outputs)) == outputs


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: TopicRule(cast(Packet, "whole")), "full or no-cutouts or slim, not 'whole'"),
        (lambda: TopicRule("full", cast(Framing, "avro")), "plain or fink, not 'avro'"),
        (lambda: Outputs(prefix="my topics"), "'my topics'"),
    ],
)
def test_what_makes_no_sense_is_refused(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


def test_a_word_of_a_topic():
    assert word("SN Ia / 91bg") == "sn-ia-91bg"
    with pytest.raises(ValueError, match="no letter"):
        word("??")
