/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The proof from a process with secrets (row C6): whether KVM works here or not, QEMU gets as far as to open the boot sector. */
#include "base/support.h"

#include "orchestrator/host_file.h"
#include "orchestrator/kvm_proof.h"

#include <grp.h>
#include <stdio.h>
#include <sys/wait.h>

#define NOBODY 65534

/* As nobody who may open /dev/kvm. */
static int prove(void)
{
    g_autoptr(GError) error = NULL;
    struct stat st = {0};

    if (stat("/dev/kvm", &st) < 0)
        st.st_gid = NOBODY;
    if (geteuid() == 0 && (setgroups(1, &st.st_gid) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
                           setresuid(NOBODY, NOBODY, NOBODY) < 0))
        return 2;
    vr_leave_no_core();
    if (vr_kvm_prove(&error) || !strstr(error->message, "/proc/"))
        return 0;
    fprintf(stderr, "%s\n", error->message);
    return 1;
}

static void a_user_who_may_leave_no_core_can_prove_it(void **state)
{
    int status = 0;
    pid_t pid = fork();

    if (pid == 0)
        _exit(prove());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_user_who_may_leave_no_core_can_prove_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
