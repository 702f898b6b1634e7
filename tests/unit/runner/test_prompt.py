"""The prompt: stable bytes in a shape that every chat template renders."""

import json

from piano_jupyter.runner.prompt import chat_messages


def roles(messages):
    return [message["role"] for message in messages]


def test_the_system_message_is_one_and_holds_prompt_and_skills(make):
    ada = make.agent(system_prompt="Be kind.")

    messages = chat_messages(ada, "Skill: SQL", [make.message("hi")], [], {})

    assert messages == [{"role": "system", "content": "Be kind.\n\nSkill: SQL"}, {"role": "user", "content": "hi"}]


def test_without_prompt_and_skills_there_is_no_system_message(make):
    assert roles(chat_messages(make.agent(), "", [make.message("hi")], [], {})) == ["user"]


def test_neighbours_of_one_role_are_merged_and_empty_ones_left_out(make):
    told = [make.message("one"), make.message("  "), make.message("two")]

    assert chat_messages(make.agent(), "", told, [], {}) == [{"role": "user", "content": "one\n\ntwo"}]


def test_a_history_that_begins_with_the_assistant_gets_a_user_first(make):
    ada = make.agent()
    told = [make.message("ok", "assistant", agent_id=ada.id), make.message("?")]

    assert roles(chat_messages(ada, "", told, [], {})) == ["user", "assistant", "user"]


def test_what_was_said_before_a_call_that_was_never_made_is_not_the_last_word(make):
    ada = make.agent()

    messages = chat_messages(
        ada, "", [make.message("go"), make.message("Let me run ls.", "assistant", agent_id=ada.id)], [], {}
    )

    assert roles(messages) == ["user"]


def test_each_call_stands_alone_with_its_result_right_behind_it(make):
    ada = make.agent()
    question, asked = make.message("1+1?"), make.message("let me see", "assistant", agent_id=ada.id)
    calls = [make.call(asked, arguments={"a": 1}), make.call(asked, result=None)]

    _, first, result, second, unfinished = chat_messages(ada, "", [question, asked], calls, {})

    assert first["content"] == "let me see"
    assert json.loads(first["tool_calls"][0]["function"]["arguments"]) == {"a": 1}
    assert (result["role"], result["tool_call_id"]) == ("tool", first["tool_calls"][0]["id"])
    assert (second["content"], len(second["tool_calls"])) == ("", 1)
    assert (unfinished["tool_call_id"], unfinished["content"]) == ("call00002", "outcome unknown: it did not finish")


def test_call_ids_are_nine_letters_or_digits_from_the_place_in_the_thread(make):
    ada = make.agent()
    asked = make.message("", "assistant", agent_id=ada.id)

    [_, called, _] = chat_messages(ada, "", [make.message("?"), asked], [make.call(asked)], {})

    assert called["tool_calls"][0]["id"] == "call00001"


def test_other_agents_speak_as_labelled_users(make):
    ada, bob = make.agent("ada"), make.agent("bob")
    told = [make.message("who?"), make.message("me", "assistant", agent_id=bob.id)]

    messages = chat_messages(ada, "", told, [], {ada.id: "ada", bob.id: "bob"})

    assert messages == [{"role": "user", "content": "who?\n\n[bob] me"}]


def test_reasoning_goes_along_within_its_own_job_only(make):
    ada = make.agent()
    question = make.message("?")
    job = make.job(question, ada)
    asked = make.message("", "assistant", agent_id=ada.id, job_id=job.id, reasoning="hm")
    calls = [make.call(asked)]

    within = chat_messages(ada, "", [question, asked], calls, {}, job.id)
    after = chat_messages(ada, "", [question, asked], calls, {}, None)

    assert within[1]["reasoning_content"] == "hm"
    assert "reasoning_content" not in after[1]


def test_a_prompt_is_the_beginning_of_the_threads_next_one(make):
    ada = make.agent(system_prompt="Be kind.")
    told = [make.message("one"), make.message("1", "assistant", agent_id=ada.id), make.message("two")]
    more = [*told, make.message("2", "assistant", agent_id=ada.id), make.message("three")]

    first, second = (chat_messages(ada, "s", history, [], {}) for history in (told, more))

    assert second[: len(first)] == first
