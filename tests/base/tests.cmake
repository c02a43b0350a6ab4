# SPDX-License-Identifier: LGPL-2.1-or-later
vr_test(base error LINK vr_base)
vr_test(base fd LINK vr_base)
vr_test(base clock LINK vr_base)
vr_test(base log LINK vr_base)
vr_test(base lock LINK vr_base)
vr_test(base durable LINK vr_base)
vr_test(base child LINK vr_base)
vr_test(base db LINK vr_base)
