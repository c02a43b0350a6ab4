/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tests with a real appliance share: one directory for all of them, with the one beneath it that the appliance is built in, once. */
#pragma once

#include "disk/images.h"

#include "disk/personalize_private.h"

static TestDir *dir;
static char *work;

static inline VrPersonalizeOptions options(void)
{
    return (VrPersonalizeOptions){.work_dir = work, .helper = g_getenv("VR_PERSONALIZE")};
}

static inline int set_up(void **state)
{
    if (test_dir_setup((void **)&dir) != 0)
        return -1;
    work = in_dir(dir, "work");
    return mkdir(work, 0700);
}

static inline int tear_down(void **state)
{
    g_clear_pointer(&work, g_free);
    return test_dir_teardown((void **)&dir);
}
