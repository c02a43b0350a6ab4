/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The agent's protocol against a script of answers, most of them from a guest that means no good. */
#include "hv/support.h"

#include "hv/guest_agent.h"

/* Answers one after the other; the last one again and again. An answer of NULL is VR_ERROR_AGENT, "!" a lost
 * connection. */
typedef struct {
    VrHv hv;
    const char *const *answers;
    guint n, calls;
    GPtrArray *commands;
} Agent;

static char *agent_answer(VrHv *hv, const char *uuid, const char *command, int timeout_s, GError **error)
{
    Agent *agent = (Agent *)hv;
    const char *text = agent->answers[MIN(agent->calls, agent->n - 1)];

    agent->calls++;
    g_ptr_array_add(agent->commands, g_strdup(command));
    assert_in_range(timeout_s, 1, 60);
    if (text == NULL || strcmp(text, "!") == 0) {
        fake_now_ms += 1000;
        g_set_error(error, VR_ERROR, text == NULL ? VR_ERROR_AGENT : VR_ERROR_DISCONNECTED, "scripted silence");
        return NULL;
    }
    return g_strdup(text);
}

static const VrHvOps agent_ops = {.agent = agent_answer};

#define SCRIPT(name, ...)                                                                                              \
    const char *const name##_answers[] = {__VA_ARGS__};                                                                \
    g_autoptr(GPtrArray) name##_commands = g_ptr_array_new_with_free_func(g_free);                                     \
    Agent name = {{&agent_ops}, name##_answers, G_N_ELEMENTS(name##_answers), 0, name##_commands}

static const char *const uname[] = {"/bin/uname", "-r", "quo\"te", NULL};

#define DEADLINE (fake_now_ms + 30000)
#define PID "{\"return\":{\"pid\":42}}"

static void pings(void **state)
{
    g_autoptr(GError) error = NULL;
    SCRIPT(good, "{\"return\":{}}");
    SCRIPT(silent, NULL);
    SCRIPT(lost, "!");
    SCRIPT(odd, "[]");

    assert_true(vr_agent_ping(&good.hv, UUID, 5, &error));
    assert_string_equal(g_ptr_array_index(good.commands, 0), "{\"execute\":\"guest-ping\"}");
    assert_false(vr_agent_ping(&silent.hv, UUID, 5, &error));
    expect_error(&error, VR_ERROR_AGENT, "guest-ping");
    assert_false(vr_agent_ping(&lost.hv, UUID, 5, &error));
    expect_error(&error, VR_ERROR_DISCONNECTED, "scripted");
    assert_false(vr_agent_ping(&odd.hv, UUID, 5, &error));
    expect_error(&error, VR_ERROR_AGENT, "no JSON object");
}

static void runs_a_command(void **state)
{
    g_autoptr(GError) error = NULL;
    g_auto(VrAgentResult) result = {0};
    SCRIPT(agent, PID, "{\"return\":{\"exited\":false}}", NULL,
           "{\"return\":{\"exited\":true,\"exitcode\":3,\"out-data\":\"aGFsbG8K\",\"err-data\":\"\"}}");

    assert_true(vr_agent_exec(&agent.hv, UUID, uname, 100, DEADLINE, NULL, &result, &error));
    assert_int_equal(result.exit_status, 3);
    assert_string_equal(result.out, "hallo\n");
    assert_string_equal(result.err, "");
    assert_false(result.cut);
    assert_string_equal(g_ptr_array_index(agent.commands, 0),
                        "{\"execute\":\"guest-exec\",\"arguments\":{\"path\":\"/bin/uname\",\"arg\":[\"-r\","
                        "\"quo\\\"te\"],\"capture-output\":true}}");
    assert_string_equal(g_ptr_array_index(agent.commands, 1),
                        "{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":42}}");
}

static void a_signal_and_cut_output(void **state)
{
    g_autoptr(GError) error = NULL;
    g_auto(VrAgentResult) result = {0};
    SCRIPT(agent, PID, "{\"return\":{\"exited\":true,\"signal\":9,\"out-data\":\"MDEyMzQ1Njc4OWFiY2RlZg==\"}}");

    assert_true(vr_agent_exec(&agent.hv, UUID, uname, 7, DEADLINE, NULL, &result, &error));
    assert_int_equal(result.exit_status, 137);
    assert_string_equal(result.out, "9abcdef"); /* the end of it */
    assert_true(result.cut);
}

/* However long the output is against what is kept of it. */
static void the_end_of_an_output(void **state)
{
    static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";

    for (gsize length = 0; length <= 24; length++) {
        for (gsize max = 0; max <= 24; max++) {
            g_autoptr(GError) error = NULL;
            g_auto(VrAgentResult) result = {0};
            g_autofree char *base64 = g_base64_encode((const guchar *)text, length);
            g_autofree char *answer =
                g_strdup_printf("{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"%s\"}}", base64);
            g_autofree char *expected = g_strndup(text + length - MIN(length, max), MIN(length, max));
            SCRIPT(agent, PID, answer);

            assert_true(vr_agent_exec(&agent.hv, UUID, uname, max, DEADLINE, NULL, &result, &error));
            assert_string_equal(result.out, expected);
            assert_int_equal(result.cut, length > max);
        }
    }
}

/* C3: a secret goes by standard input, bytes as they are, and an empty input is one too. */
static void input(void **state)
{
    static const char bytes[] = {'a', 0, '\xff'};
    g_autoptr(GError) error = NULL;
    g_auto(VrAgentResult) result = {0};
    SCRIPT(agent, PID, "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"YQ==\",\"out-truncated\":true}}");
    SCRIPT(empty, PID, "{\"return\":{\"exited\":true,\"exitcode\":0}}");

    assert_true(vr_agent_exec_input(&agent.hv, UUID, uname, bytes, 3, 100, DEADLINE, NULL, &result, &error));
    assert_string_equal(g_ptr_array_index(agent.commands, 0),
                        "{\"execute\":\"guest-exec\",\"arguments\":{\"path\":\"/bin/uname\",\"arg\":[\"-r\","
                        "\"quo\\\"te\"],\"capture-output\":true,\"input-data\":\"YQD/\"}}");
    assert_string_equal(result.out, "a");
    assert_true(result.cut); /* says the agent */
    vr_agent_result_clear(&result);
    assert_true(vr_agent_exec_input(&empty.hv, UUID, uname, "", 0, 100, DEADLINE, NULL, &result, &error));
    assert_non_null(strstr(g_ptr_array_index(empty.commands, 0), "\"input-data\":\"\""));
    assert_false(result.cut);
}

static void a_command_that_never_ends(void **state)
{
    g_autoptr(GError) error = NULL;
    g_auto(VrAgentResult) result = {0};
    SCRIPT(agent, PID, "{\"return\":{\"exited\":false}}");
    gint64 deadline = DEADLINE;

    assert_false(vr_agent_exec(&agent.hv, UUID, uname, 7, deadline, NULL, &result, &error));
    expect_error(&error, VR_ERROR_TIMEOUT, "/bin/uname");
    assert_int_equal(fake_now_ms, deadline);
    assert_in_range(agent.calls, 60, 70); /* 30 s at 500 ms: the back-off holds */
}

static void an_agent_that_falls_silent(void **state)
{
    g_autoptr(GError) error = NULL;
    g_auto(VrAgentResult) result = {0};
    SCRIPT(agent, PID, NULL);
    SCRIPT(lost, PID, "!");

    assert_false(vr_agent_exec(&agent.hv, UUID, uname, 7, DEADLINE, NULL, &result, &error));
    expect_error(&error, VR_ERROR_AGENT, "scripted");
    assert_int_equal(agent.calls, 4);
    assert_false(vr_agent_exec(&lost.hv, UUID, uname, 7, DEADLINE, NULL, &result, &error));
    expect_error(&error, VR_ERROR_DISCONNECTED, "scripted");
}

static void hostile_answers_to_exec(void **state)
{
    static const char *const starts[] = {
        "",
        "null",
        "{",
        "{\"return\":",
        "{\"error\":{}}",
        "{\"return\":{}}",
        "{\"return\":[]}",
        "{\"return\":null}",
        "{\"return\":{\"pid\":-1}}",
        "{\"return\":{\"pid\":0}}",
        "{\"return\":{\"pid\":1.5}}",
        "{\"return\":{\"pid\":\"1\"}}",
        "{\"return\":{\"pid\":true}}",
        "{\"return\":{\"pid\":99999999999999999999}}",
        "{\"return\":{\"pid\":1},\"return\":{\"pid\":2}}",
        "{\"return\":{\"pid\":1}} x",
        "\xff\xfe",
    };
    static const char *const statuses[] = {
        "{\"return\":{}}",
        "{\"return\":7}",
        "{\"return\":{\"exited\":1}}",
        "{\"return\":{\"exited\":\"true\"}}",
        "{\"return\":{\"exited\":true}}",
        "{\"return\":{\"exited\":true,\"exitcode\":256}}",
        "{\"return\":{\"exited\":true,\"exitcode\":-1}}",
        "{\"return\":{\"exited\":true,\"signal\":0}}",
        "{\"return\":{\"exited\":true,\"signal\":\"9\"}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":7}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":null}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"a\"}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"a===\"}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"ab=c\"}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"abcd\",\"err-data\":\"<>\"}}",
        "{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"ab\\u0000d\"}}",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(starts); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(VrAgentResult) result = {0};
        SCRIPT(agent, starts[i]);
        assert_false(vr_agent_exec(&agent.hv, UUID, uname, 100, DEADLINE, NULL, &result, &error));
        expect_error(&error, VR_ERROR_AGENT, "answer");
        assert_int_equal(agent.calls, 1);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(statuses); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(VrAgentResult) result = {0};
        SCRIPT(agent, PID, statuses[i]);
        assert_false(vr_agent_exec(&agent.hv, UUID, uname, 100, DEADLINE, NULL, &result, &error));
        expect_error(&error, VR_ERROR_AGENT, "answer");
        assert_null(result.out);
    }
}

static char *filled(const char *head, char fill, gsize n, const char *tail)
{
    g_autofree char *middle = g_strnfill(n, fill);

    return g_strconcat(head, middle, tail, NULL);
}

static void huge_and_deep_answers(void **state)
{
    g_autoptr(GError) error = NULL;
    g_auto(VrAgentResult) result = {0};
    g_autofree char *deep = filled("{\"return\":", '[', 100000, "");
    g_autofree char *huge = filled("{\"return\":{\"exited\":true,\"exitcode\":0,\"out-data\":\"", 'A', 4000000, "\"}}");
    SCRIPT(nested, deep);
    SCRIPT(large, PID, huge);

    assert_false(vr_agent_ping(&nested.hv, UUID, 5, &error));
    expect_error(&error, VR_ERROR_AGENT, "no JSON object");
    assert_true(vr_agent_exec(&large.hv, UUID, uname, 1000, DEADLINE, NULL, &result, &error));
    assert_int_equal(result.out[999], 0);
    expect_no_error(error);
}

static void bad_arguments(void **state)
{
    static const char *const none[] = {NULL};
    static const char *const latin[] = {"/bin/echo", "\xe4", NULL};
    g_autoptr(GError) error = NULL;
    g_auto(VrAgentResult) result = {0};
    SCRIPT(agent, PID);

    assert_false(vr_agent_exec(&agent.hv, UUID, none, 1, DEADLINE, NULL, &result, &error));
    expect_error(&error, VR_ERROR_INVALID, "without a name");
    assert_false(vr_agent_exec(&agent.hv, UUID, latin, 1, DEADLINE, NULL, &result, &error));
    expect_error(&error, VR_ERROR_INVALID, "UTF-8");
    assert_null(vr_agent_read_file(&agent.hv, UUID, "/\xe4", 1, DEADLINE, NULL, &error));
    expect_error(&error, VR_ERROR_INVALID, "UTF-8");
    assert_int_equal(agent.calls, 0);
}

#define HANDLE "{\"return\":1000}"

static void reads_a_file(void **state)
{
    g_autoptr(GError) error = NULL;
    gsize length;
    SCRIPT(agent, HANDLE, "{\"return\":{\"count\":3,\"buf-b64\":\"YWJj\",\"eof\":false}}",
           "{\"return\":{\"count\":1,\"buf-b64\":\"ZA==\",\"eof\":true}}", "{\"return\":{}}");
    g_autofree char *text = vr_agent_read_file(&agent.hv, UUID, "/etc/x", 4, DEADLINE, &length, &error);

    expect_no_error(error);
    assert_string_equal(text, "abcd");
    assert_int_equal(length, 4);
    assert_string_equal(g_ptr_array_index(agent.commands, 3),
                        "{\"execute\":\"guest-file-close\",\"arguments\":{\"handle\":1000}}");
}

static void hostile_files(void **state)
{
    static const struct {
        const char *chunk;
        int code;
        const char *text;
    } cases[] = {
        {"{\"return\":{\"buf-b64\":\"YWJjZGU=\",\"eof\":true}}", VR_ERROR_AGENT, "larger than 4"},
        {"{\"return\":{\"buf-b64\":\"YQ==\",\"eof\":false}}", VR_ERROR_AGENT, "larger than 4"},
        {"{\"return\":{\"buf-b64\":\"\",\"eof\":false}}", VR_ERROR_AGENT, "neither data nor the end"},
        {"{\"return\":{\"buf-b64\":\"YQ==\"}}", VR_ERROR_AGENT, "'eof'"},
        {"{\"return\":{\"buf-b64\":7,\"eof\":true}}", VR_ERROR_AGENT, "'buf-b64'"},
        {"{\"return\":[]}", VR_ERROR_AGENT, "'eof'"},
        {NULL, VR_ERROR_AGENT, "scripted"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        SCRIPT(agent, HANDLE, cases[i].chunk);
        assert_null(vr_agent_read_file(&agent.hv, UUID, "/etc/x", 4, DEADLINE, NULL, &error));
        expect_error(&error, cases[i].code, cases[i].text);
        assert_non_null(strstr(g_ptr_array_index(agent.commands, agent.commands->len - 1), "guest-file-close"));
    }
    g_autoptr(GError) error = NULL;
    SCRIPT(handle, "{\"return\":\"1000\"}");
    assert_null(vr_agent_read_file(&handle.hv, UUID, "/etc/x", 4, DEADLINE, NULL, &error));
    expect_error(&error, VR_ERROR_AGENT, "handle");
}

#define TAKEN(count) "{\"return\":{\"count\":" #count ",\"eof\":false}}"
#define DONE "{\"return\":{}}"

static void writes_a_file(void **state) /* H7 */
{
    g_autoptr(GError) error = NULL;
    g_autofree char *large = g_strnfill(100000, 'x');
    SCRIPT(agent, HANDLE, TAKEN(1), TAKEN(2), DONE, DONE);
    SCRIPT(parts, HANDLE, TAKEN(49152), TAKEN(49152), TAKEN(1696), DONE, DONE);
    SCRIPT(empty, HANDLE, DONE, DONE);

    assert_true(vr_agent_write_file(&agent.hv, UUID, "/run/x", "abc", 3, DEADLINE, &error));
    expect_no_error(error);
    assert_int_equal(agent.calls, 5);
    assert_string_equal(g_ptr_array_index(agent.commands, 0),
                        "{\"execute\":\"guest-file-open\",\"arguments\":{\"path\":\"/run/x\",\"mode\":\"w\"}}");
    assert_string_equal(g_ptr_array_index(agent.commands, 1),
                        "{\"execute\":\"guest-file-write\",\"arguments\":{\"handle\":1000,\"buf-b64\":\"YWJj\"}}");
    assert_string_equal(g_ptr_array_index(agent.commands, 2),
                        "{\"execute\":\"guest-file-write\",\"arguments\":{\"handle\":1000,\"buf-b64\":\"YmM=\"}}");
    assert_string_equal(g_ptr_array_index(agent.commands, 3),
                        "{\"execute\":\"guest-file-flush\",\"arguments\":{\"handle\":1000}}");
    assert_string_equal(g_ptr_array_index(agent.commands, 4),
                        "{\"execute\":\"guest-file-close\",\"arguments\":{\"handle\":1000}}");
    assert_true(vr_agent_write_file(&parts.hv, UUID, "/run/x", large, 100000, DEADLINE, &error));
    assert_int_equal(parts.calls, 6);
    assert_true(vr_agent_write_file(&empty.hv, UUID, "/run/x", "", 0, DEADLINE, &error));
    assert_int_equal(empty.calls, 3);
    assert_false(vr_agent_write_file(&agent.hv, UUID, "/\xe4", "abc", 3, DEADLINE, &error));
    expect_error(&error, VR_ERROR_INVALID, "UTF-8");
}

/* A guest that takes nothing, or more than there is, or fails to flush; and one that takes a byte at a time, slowly. */
static void hostile_writes(void **state)
{
    static const char *const answers[] = {TAKEN(0), TAKEN(4), TAKEN(-1), DONE, "{\"return\":{\"count\":\"3\"}}", NULL};

    for (gsize i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autoptr(GError) error = NULL;
        SCRIPT(agent, HANDLE, answers[i]);
        assert_false(vr_agent_write_file(&agent.hv, UUID, "/run/x", "abc", 3, DEADLINE, &error));
        expect_error(&error, VR_ERROR_AGENT, "/run/x");
        assert_int_equal(agent.calls, 3);
        assert_non_null(strstr(g_ptr_array_index(agent.commands, 2), "guest-file-close"));
    }
    g_autoptr(GError) error = NULL;
    SCRIPT(full, HANDLE, TAKEN(3), "{\"error\":{\"desc\":\"No space left on device\"}}", DONE);
    assert_false(vr_agent_write_file(&full.hv, UUID, "/run/x", "abc", 3, DEADLINE, &error));
    expect_error(&error, VR_ERROR_AGENT, "/run/x");
    SCRIPT(late, HANDLE, TAKEN(1));
    assert_false(vr_agent_write_file(&late.hv, UUID, "/run/x", "abc", 3, fake_now_ms, &error));
    expect_error(&error, VR_ERROR_TIMEOUT, "not written in time");
    assert_int_equal(late.calls, 2);
}

static void reads_the_boot_id(void **state)
{
    g_autoptr(GError) error = NULL;
    SCRIPT(good, HANDLE,
           "{\"return\":{\"buf-b64\":\"NWIyYThhMDgtMjZhNS00ZmQ4LTlhNmUtMGQ3YThmMGMxYjExCg==\",\"eof\":true}}",
           "{\"return\":{}}");
    SCRIPT(bad, HANDLE, "{\"return\":{\"buf-b64\":\"bm8gYm9vdCBpZAo=\",\"eof\":true}}", "{\"return\":{}}");
    g_autofree char *id = vr_agent_boot_id(&good.hv, UUID, DEADLINE, &error);

    assert_string_equal(id, UUID);
    assert_null(vr_agent_boot_id(&bad.hv, UUID, DEADLINE, &error));
    expect_error(&error, VR_ERROR_AGENT, "boot id");
}

#define clock_test(f) cmocka_unit_test_setup_teardown(f, use_fake_clock, use_real_clock)

static void reads_the_addresses(void **state) /* E3 */
{
    g_autoptr(GError) error = NULL;
    SCRIPT(good, "{\"return\":[{\"name\":\"lo\",\"ip-addresses\":[{\"ip-address\":\"127.0.0.1\",\"prefix\":8}]},"
                 "{\"name\":\"eth0\",\"hardware-address\":\"52:54:00:AB:CD:EF\",\"ip-addresses\":["
                 "{\"ip-address\":\"10.0.0.5\"},{\"ip-address\":\"fd00::5\"}]}]}");
    SCRIPT(silent, NULL);
    SCRIPT(odd, "{\"return\":{}}");

    g_autoptr(GPtrArray) addresses = vr_agent_addresses(&good.hv, UUID, DEADLINE, &error);
    assert_non_null(addresses);
    assert_int_equal(addresses->len, 3);
    const VrGuestAddress *first = g_ptr_array_index(addresses, 0), *last = g_ptr_array_index(addresses, 2);
    assert_string_equal(first->mac, "");
    assert_string_equal(first->ip, "127.0.0.1");
    assert_string_equal(last->mac, "52:54:00:ab:cd:ef");
    assert_string_equal(last->ip, "fd00::5");
    assert_true(last->v6 && !first->v6);
    assert_null(vr_agent_addresses(&silent.hv, UUID, DEADLINE, &error));
    expect_error(&error, VR_ERROR_AGENT, "guest-network-get-interfaces");
    assert_null(vr_agent_addresses(&odd.hv, UUID, DEADLINE, &error));
    expect_error(&error, VR_ERROR_AGENT, "no list of network cards");
}

/* What is no address is left out, and no answer fills the memory. */
static void hostile_addresses(void **state)
{
    g_autoptr(GError) error = NULL;
    SCRIPT(odd, "{\"return\":[7,{\"ip-addresses\":9},{\"hardware-address\":\"much too long to be a MAC address\","
                "\"ip-addresses\":[{\"ip-address\":\"example.com\"},{\"ip-address\":\"10.0.0.1/../\"},"
                "{\"ip-address\":5},8,{\"ip-address\":\"10.0.0.6\"}]}]}");
    g_autoptr(GString) flood = g_string_new("{\"return\":[{\"ip-addresses\":[{\"ip-address\":\"10.0.0.1\"}");

    g_autoptr(GPtrArray) one = vr_agent_addresses(&odd.hv, UUID, DEADLINE, &error);
    assert_int_equal(one->len, 1);
    assert_string_equal(((VrGuestAddress *)one->pdata[0])->mac, "");
    for (guint i = 0; i < 10000; i++)
        g_string_append(flood, ",{\"ip-address\":\"10.0.0.1\"}");
    g_string_append(flood, "]}]}");
    SCRIPT(many, flood->str);
    g_autoptr(GPtrArray) bounded = vr_agent_addresses(&many.hv, UUID, DEADLINE, &error);
    assert_int_equal(bounded->len, 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        clock_test(pings),
        clock_test(runs_a_command),
        clock_test(a_signal_and_cut_output),
        clock_test(the_end_of_an_output),
        clock_test(input),
        clock_test(a_command_that_never_ends),
        clock_test(an_agent_that_falls_silent),
        clock_test(hostile_answers_to_exec),
        clock_test(huge_and_deep_answers),
        clock_test(bad_arguments),
        clock_test(reads_a_file),
        clock_test(hostile_files),
        clock_test(writes_a_file),
        clock_test(hostile_writes),
        clock_test(reads_the_boot_id),
        clock_test(reads_the_addresses),
        clock_test(hostile_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
