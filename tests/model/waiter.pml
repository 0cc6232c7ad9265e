/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A thread of an application waits for progress of a socket; the server may be killed between
 * publishing and ringing: libchan/edge/app.h, WAKING. Stores go through a buffer per processor
 * (TSO), which a kill does not lose. Every process ends, or the thread sleeps although there is
 * progress: an invalid end state.
 *
 * Controls, each of which must fail:
 *   NO_FENCE_APP       between `armed` and the re-check
 *   NO_FENCE_SERVER    between the progress and the look at `armed`
 *   SILENT_SUCCESSOR   the successor does not ring for its predecessor
 *   SAME_ARMED         a thread that woke in vain polls again without raising `armed`
 */
#define N     3 /* pieces of progress */
#define APP   0
#define SRV   1
#define ARMED 0 /* written by the application */
#define NXT   1 /* written by the server */
#ifndef KILLS
#define KILLS 1
#endif

byte mem[2];
bool bell;       /* a datagram is in the queue; a second one changes nothing */
bool vain;       /* a ring that means nothing: allowed at any time, here once */
chan buffer[2] = [2] of { byte, byte };
byte kills;
bool kill;

inline store(p, where, value) { buffer[p]!where, value }
inline fence(p) { empty(buffer[p]) }

active [2] proctype drain()
{
	byte where, value;
end:	do
	:: atomic { buffer[_pid]?where, value -> mem[where] = value }
	od
}

active proctype killer()
{
end:	do
	:: kills < KILLS && !kill -> atomic { kills++; kill = true }
	:: atomic { !vain -> vain = true; bell = true }
	:: break
	od
}

/* One waiter, one socket. */
inline look()
{
	armed = mem[ARMED];
	if
	:: armed % 2 == 1 && armed != rung -> rung = armed; bell = true
	:: else
	fi
}

active proctype server()
{
	byte nxt, armed, rung;

life:	{
		/* The counter is in the region; what was rung is not. A kill does not undo the
		 * processor's stores: they are in memory before a successor looks. */
		atomic { fence(SRV); nxt = mem[NXT]; rung = 0 };
#ifndef SILENT_SUCCESSOR
		look();
#endif
		do
		:: nxt == N -> break
		:: else ->
			nxt++;
			store(SRV, NXT, nxt);
#ifndef NO_FENCE_SERVER
			fence(SRV);
#endif
			look()
		od
	} unless {
		kill
	}
	if
	:: kill -> atomic { kill = false; goto life }
	:: else
	fi
}

active proctype thread()
{
	byte armed = 0, seen = 0;

	do
	:: seen == N -> break
	:: mem[NXT] > seen -> seen = mem[NXT]
	:: else ->
		armed++;
		store(APP, ARMED, armed);
#ifndef NO_FENCE_APP
		fence(APP);
#endif
		if
		:: mem[NXT] > seen
		:: else ->
			bell -> bell = false;
#ifdef SAME_ARMED
			if
			:: mem[NXT] > seen
			:: else -> bell -> bell = false
			fi
#endif
		fi;
		armed++;
		store(APP, ARMED, armed)
	od
}
