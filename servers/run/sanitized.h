/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Is this a build with sanitizers? They want system calls and signal handlers of their own.
 */
#ifndef EFT_SERVERS_RUN_SANITIZED_H
#define EFT_SERVERS_RUN_SANITIZED_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
