/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A server between two queues, killed at any point up to KILLS times: libchan/chan.h, "exactly once
 * over crashes". It makes two outputs of each input, in batches of its own choice. The sink must see
 * every output once, in order; the kernel keeps program order for a successor, so that stores are
 * plain here.
 *
 * Controls, each of which must fail:
 *   NO_PROVENANCE   the successor does not look at what its predecessor published
 *   RELEASE_FIRST   the input is released before its outputs are published
 *   NO_SUB          provenance names the input only, not which of its outputs
 *   NO_HALF         more than half of the queue is left unpublished, and covers up what the
 *                   successor wants to look at
 */
#define N     3 /* inputs */
#define CAP   4 /* of the output queue */
#ifndef KILLS
#define KILLS 2
#endif

typedef slot { byte index; byte sub }

/* the server's region */
byte in_head;
byte out_tail;
slot out[CAP];
/* the sink's region */
byte sink_head;

byte kills;
bool kill;

active proctype killer()
{
end:	do
	:: kills < KILLS && !kill && in_head < N -> atomic { kills++; kill = true }
	:: break
	od
}

active proctype server()
{
	byte head, tail, sub; /* private */
	byte last_index, last_sub;
	bool last;

life:	{
		/* attach: only what is in the region */
		atomic {
			head = in_head; tail = out_tail; last = false; sub = 0;
#ifndef NO_PROVENANCE
			if
			:: tail > 0 ->
				last = true;
				last_index = out[(tail - 1) % CAP].index;
				last_sub = out[(tail - 1) % CAP].sub
			:: else
			fi
#endif
		}
		do
		:: in_head == N -> break
		/* the next output of the input at `head` */
#ifdef NO_HALF
		:: head < N && tail - sink_head < CAP ->
#else
		:: head < N && tail - sink_head < CAP && tail - out_tail < CAP / 2 ->
#endif
			if
#ifdef NO_SUB
			:: last && head <= last_index ->
#else
			:: last && (head < last_index || (head == last_index && sub <= last_sub)) ->
#endif
				skip /* CHAN_DUP */
			:: else ->
				last = false;
				out[tail % CAP].index = head;
				out[tail % CAP].sub = sub;
				tail++
			fi;
			if
			:: sub == 1 -> atomic { sub = 0; head++ }
			:: else -> sub = 1
			fi
		/* publish, now or later; a full queue is published first */
		:: tail != out_tail -> out_tail = tail
		/* release: everything that was made of these inputs is published */
#ifdef RELEASE_FIRST
		:: head != in_head -> in_head = head
#else
		:: head != in_head && tail == out_tail -> in_head = head
#endif
		od
	} unless {
		kill
	}
	if
	:: kill -> atomic { kill = false; goto life }
	:: else
	fi
}

active proctype sink()
{
	byte n = 0;

	do
	:: n == 2 * N -> break
	:: out_tail > sink_head ->
		assert(out[sink_head % CAP].index == n / 2);
		assert(out[sink_head % CAP].sub == n % 2);
		n++;
		sink_head = sink_head + 1
	od;
	/* nothing comes after the last one */
	assert(out_tail == sink_head)
}
