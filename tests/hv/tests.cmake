# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(hv domain_xml LINK vr_hv)
vr_test(hv domain_nvram LINK vr_hv)
vr_test(hv preflight LINK vr_hv)
vr_test(hv domain LINK vr_hv)
vr_test(hv guest_agent LINK vr_hv)
vr_test(hv connection LINK vr_hv)
vr_test(hv libvirt LINK vr_hv)
set_tests_properties(hv/connection PROPERTIES LABELS threads)
