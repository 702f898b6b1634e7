"""TAB in a kernel, as a front end asks for it."""


def tab(kernel, code):
    """Complete at the end of the code: what is offered, and for what."""
    sent = kernel.client.complete(code, len(code))
    while (reply := kernel.client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != sent:
        pass
    content = reply["content"]
    return content["matches"], code[content["cursor_start"] : content["cursor_end"]]


def offered_for(kernel, code):
    """Complete until something is offered: TAB waits for no name that is late, which comes with the next TAB."""
    for _ in range(100):
        found = tab(kernel, code)
        if found[0]:
            break
    return found
