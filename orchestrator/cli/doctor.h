/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What doctor looks at. Each check finds out by trying, and changes nothing. */
#pragma once

#include "hv/hv.h"
#include "orchestrator/cli/cli.h"

typedef enum { VR_CHECK_OK, VR_CHECK_WARN, VR_CHECK_FAIL } VrCheckResult;

typedef struct {
    VrCheckResult result;
    char *text;   /* what is true; owned */
    char *remedy; /* what to do; NULL when ok; owned */
} VrCheck;

typedef struct {
    const VrCli *cli;
    VrHv *hv; /* NULL until the first check has connected, and when it could not */
} VrDoctor;

typedef struct {
    const char *name;
    void (*check)(VrDoctor *doctor, VrCheck *check);
} VrDoctorCheck;

/* In order; ended by a row without a name. */
extern const VrDoctorCheck vr_doctor_checks[];
