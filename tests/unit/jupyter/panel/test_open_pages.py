from piano_jupyter.jupyter.panel.open_pages import ASK_EVERY_S, SILENT_AFTER_S, OpenPages


def test_a_page_that_does_not_reply_is_forgotten_and_one_that_does_stays():
    pages = OpenPages()
    pages.hear("gone", 0)
    pages.hear("here", 0)
    assert pages.are_to_be_asked(1)  # at once: a new page may have taken the place of another

    assert not pages.are_to_be_asked(2)
    pages.hear("here", 2)
    pages.drop_silent(1 + SILENT_AFTER_S)

    assert list(pages) == ["here"]
    assert pages.are_to_be_asked(1 + ASK_EVERY_S)
    pages.drop_silent(1 + ASK_EVERY_S + SILENT_AFTER_S)
    assert not pages
    assert pages.hear("here", 90)


def test_a_page_that_was_not_asked_is_not_forgotten():
    pages = OpenPages()
    pages.hear("first", 0)
    pages.drop_silent(1000)
    pages.hear("second", 1000)

    pages.drop_silent(1001)

    assert list(reversed(pages)) == ["second", "first"]
