# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(engine swap LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
vr_test(engine swap_nvram LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
include(fault/tests.cmake)
vr_test(fault kill LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
set_tests_properties(fault/kill PROPERTIES TIMEOUT 900) # some hundred swaps with all their flushes, on a slow disk
vr_test(engine meanwhile LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
vr_test(engine in_use LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
vr_test(engine swap_preflight LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
vr_test(engine retention LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
vr_test(engine retire LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
vr_test(fault kill_gc LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
vr_test(engine manifest LINK vr_engine SOURCES engine/support.c fault/fake_hv.c)
