/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Memory that one thread hands to another through a queue or a pool of GLib. GLib's locks are futexes that
 * ThreadSanitizer cannot see, so without a word it would call each hand-over a race; these say where one is.
 * Nothing in other builds: the queue itself is what orders the threads.
 */
#pragma once

#if defined(__SANITIZE_THREAD__)
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define vr_handover_give(pointer) __tsan_release(pointer)
#define vr_handover_take(pointer) __tsan_acquire(pointer)
#else
#define vr_handover_give(pointer) ((void)(pointer))
#define vr_handover_take(pointer) ((void)(pointer))
#endif
