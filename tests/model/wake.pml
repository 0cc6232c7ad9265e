/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sleeping and waking of two servers with a queue between them: libchan/chan.c, libchan/wake.h and
 * the run loop. Stores go through a buffer per process, as on x86 (TSO): others see them later, in
 * order; a full fence waits until the buffer is empty. Every process ends, or somebody sleeps on
 * work: an invalid end state.
 *
 * Controls, each of which must fail:
 *   NO_FENCE_PUBLISH       between the tail and the look at the consumer's asleep flag
 *   NO_FENCE_SLEEP         between our asleep flag and the last look for work
 *   NO_FENCE_RELEASE       between the head and the look at `want`
 *   PENDING_IGNORES_ROOM   the last look before sleeping leaves out room in the queue
 */
#define N    4 /* messages */
#define CAP  2
#define P    0 /* producer */
#define C    1 /* consumer */
#define TAIL 0
#define HEAD 1
#define WANT 2
#define ASLEEP(p) (3 + p)

byte mem[5];
bool bell[2];
chan buffer[2] = [3] of { byte, byte };

inline store(p, where, value) { buffer[p]!where, value }
inline fence(p) { empty(buffer[p]) }

active [2] proctype drain()
{
	byte where, value;
end:	do
	:: atomic { buffer[_pid]?where, value -> mem[where] = value }
	od
}

active proctype producer()
{
	byte tail = 0;
	bool want = false;

	do
	:: tail == N -> break
	:: else ->
		if
		:: tail - mem[HEAD] < CAP ->
work:			tail++;
			store(P, TAIL, tail);
#ifndef NO_FENCE_PUBLISH
			fence(P);
#endif
			if
			:: mem[ASLEEP(C)] -> bell[C] = true
			:: else
			fi
		:: else ->
			/* chan_tx_room() */
			store(P, WANT, 1);
			fence(P);
			if
			:: tail - mem[HEAD] < CAP -> store(P, WANT, 0)
			:: else ->
				/* idle: the run loop goes to sleep */
				store(P, ASLEEP(P), 1);
#ifndef NO_FENCE_SLEEP
				fence(P);
#endif
				if
#ifdef PENDING_IGNORES_ROOM
				:: true ->
#else
				:: tail - mem[HEAD] < CAP
				:: else ->
#endif
					bell[P] -> bell[P] = false
				fi;
				store(P, ASLEEP(P), 0)
			fi
		fi
	od
}

active proctype consumer()
{
	byte head = 0;

	do
	:: head == N -> break
	:: else ->
		if
		:: mem[TAIL] != head ->
			head++;
			/* chan_rx_release() */
			store(C, HEAD, head);
#ifndef NO_FENCE_RELEASE
			fence(C);
#endif
			if
			:: mem[WANT] ->
				/* bell_flush() */
				fence(C);
				if
				:: mem[ASLEEP(P)] -> bell[P] = true
				:: else
				fi
			:: else
			fi
		:: else ->
			store(C, ASLEEP(C), 1);
#ifndef NO_FENCE_SLEEP
			fence(C);
#endif
			if
			:: mem[TAIL] != head
			:: else -> bell[C] -> bell[C] = false
			fi;
			store(C, ASLEEP(C), 0)
		fi
	od
}
