/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The journal of a receive ring (servers/udp/record.c): UDP delivers inputs to a socket, killed at
 * any point; two journal entries say which input a store of rx_nxt is about. The reader must see
 * every input once, in order. Batches: several inputs are delivered before they are released.
 *
 * Controls, each of which must fail:
 *   ONE_ENTRY       a single entry, rewritten in place
 *   SOURCE_FIRST    an entry names its input before it has its target
 *   NO_JOURNAL      the successor delivers whatever it sees again
 */
#define N 4
#ifndef KILLS
#define KILLS 2
#endif

/* udp's region, and down-udp */
byte in_head;
byte source[2];
byte target[2];
byte rx_nxt;
byte ring[12]; /* what lies at each offset; more than N: duplicates fit as well */

byte kills;
bool kill;

active proctype killer()
{
end:	do
	:: kills < KILLS && !kill && in_head < N -> atomic { kills++; kill = true }
	:: break
	od
}

active proctype udp()
{
	byte head, e, newest;

life:	{
		head = in_head;
		do
		:: in_head == N -> break
		:: head < N ->
			newest = (source[1] > source[0] -> 1 : 0);
			if
#ifndef NO_JOURNAL
			:: head + 1 < source[newest] -> skip
			:: head + 1 == source[newest] && rx_nxt >= target[newest] -> skip
#endif
			:: else ->
				ring[rx_nxt] = head; /* behind rx_nxt: nobody looks */
#ifdef ONE_ENTRY
				e = 0;
#else
				e = (source[newest] == head + 1 -> newest : 1 - newest);
#endif
#ifdef SOURCE_FIRST
				source[e] = head + 1;
				target[e] = rx_nxt + 1;
#else
				target[e] = rx_nxt + 1;
				source[e] = head + 1;
#endif
				rx_nxt = rx_nxt + 1
			fi;
			head++
		:: head != in_head -> in_head = head
		od
	} unless {
		kill
	}
	if
	:: kill -> atomic { kill = false; goto life }
	:: else
	fi
	/* released all: the reader's view is final */
	atomic {
		assert(rx_nxt == N);
		e = 0;
		do
		:: e == N -> break
		:: else -> assert(ring[e] == e); e++
		od
	}
}
