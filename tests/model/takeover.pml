/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Take-over: servers/run/standby.c, recovery/rs/spare.c. One that runs (R), two spares (A, B), the
 * kernel's robust futex, and rs. Whoever runs may store anything to the lock word, or damage its epoch.
 * R dies at some step; one more of the spares may be killed at any step, or stand still for ever
 * (SIGSTOP). rs wakes spares, tells one to take over, and at last ends all and starts afresh (C), each
 * of it as early or late as it likes, also when somebody has taken over that it has not heard of.
 * Checked: at most one writes at any time, and in the end somebody runs (else: invalid end state).
 *
 * A process writes from its first store (the epoch) until it is exiting (PF_EXITING), and then executes
 * nothing any more. The kernel looks at the lock word later, if the word names the dead one.
 *
 * Controls, each of which must fail:
 *   NO_AUTHORITY   the predecessor is not ended first
 *   NO_EPOCH       only the one that is known to run is ended, whatever the epoch
 *   NO_CONFIRM     the lock is not looked at again after the end of the predecessor
 *   NO_FALLBACK    rs leaves it to the lock word
 */
#define R    1
#define A    2
#define B    3
#define C    4
#define DIED 9 /* FUTEX_OWNER_DIED */

#define SLEEPS  0 /* a spare */
#define RUNS    1
#define EXITING 2 /* executes nothing any more */
#define DEAD    3 /* and the kernel is through with its robust list */

#define KNOWN 1 /* the epoch of R, which is all that spares have heard of */

byte state[5];
byte lock = R;
byte epoch = KNOWN;
byte writers;
byte wild = 2;
bool stopped[5], woken[5], take[5];

#define alive(p)  (state[p] == SLEEPS && !stopped[p])
#define gone(p)   (state[p] >= EXITING)
#define somebody  (state[A] == RUNS || state[B] == RUNS || state[C] == RUNS)

/* SIGKILL; harmless to the dead. In atomic sequences only. */
inline end_it(p)
{
	if
	:: state[p] == RUNS -> state[p] = EXITING; writers--
	:: state[p] == SLEEPS -> state[p] = EXITING
	:: gone(p)
	fi
}

/* Gives the robust list of a dead one back, and wakes one that waits; one that is stopped, too. */
inline give_back(p)
{
	state[p] = DEAD;
	if
	:: lock == p -> lock = DIED;
		if
		:: state[A] == SLEEPS -> woken[A] = true
		:: state[B] == SLEEPS -> woken[B] = true
		:: gone(A) && gone(B)
		:: state[A] == RUNS || state[B] == RUNS
		fi
	:: lock != p
	fi
}

proctype kernel()
{
end:	do
	:: atomic { state[R] == EXITING -> give_back(R) }
	:: atomic { state[A] == EXITING -> give_back(A) }
	:: atomic { state[B] == EXITING -> give_back(B) }
	od
}

proctype damage()
{
end:	do
	:: atomic { wild > 0 && writers > 0 -> wild--;
		if
		:: lock = DIED
		:: lock = 0
		:: lock = A
		:: epoch = 7
		fi }
	od
}

proctype killer()
{
	atomic { end_it(R) };
	if
	:: atomic { end_it(A) }
	:: stopped[A] = true
	:: true
	fi
}

/* Each step needs us alive: a spare that is dead or stopped stays where it is. */
proctype spare(byte me; byte other)
{
	byte before, seen;
	bool all;

endsleep:
	atomic {
		alive(me) && (woken[me] || take[me]) -> woken[me] = false;
		before = epoch;
		seen = lock;
		if
		:: take[me] -> all = true
		:: !take[me] && seen == DIED ->
#ifdef NO_EPOCH
			all = false
#else
			all = (before != KNOWN)
#endif
		:: !take[me] && seen != DIED -> goto endsleep
		fi
	}
	/* cmpxchg */
endclaim:
	atomic {
		alive(me);
		if
		:: lock == seen -> lock = me; take[me] = false
		:: lock != seen -> woken[me] = true; goto endsleep /* the futex says so */
		fi
	}
#ifndef NO_AUTHORITY
endkill:
	atomic { alive(me) -> end_it(R) };
	if
	:: all ->
endkill2:
		atomic { alive(me) -> end_it(other) }
	:: !all
	fi
	/* they were killed: the kernel says when they are exiting, which here is at once */
#endif
endconfirm:
	atomic {
		alive(me);
#ifndef NO_CONFIRM
		if
		:: lock == me && epoch == before
		:: lock != me || epoch != before -> goto endsleep
		fi
#endif
	}
	/* a step of its own: nothing may have changed meanwhile */
endstore:
	atomic {
		alive(me) -> state[me] = RUNS; epoch = before + 1; writers++;
		assert(writers == 1)
	}
}

proctype rs()
{
	byte step = 0;

	state[R] == DEAD;
#ifdef NO_FALLBACK
	somebody
#else
	do
	:: step == 0 -> step = 1; woken[A] = true; woken[B] = true
	:: step == 1 -> step = 2;
		if
		:: alive(A) -> take[A] = true
		:: alive(B) -> take[B] = true
		:: else
		fi
	:: step == 2 -> break
	:: somebody -> goto watch
	od;
	atomic { end_it(A) };
	atomic { end_it(B) };
	state[A] == DEAD && state[B] == DEAD;
	atomic { state[C] = RUNS; lock = C; writers++; assert(writers == 1) };
	goto done;
watch:	/* what it has heard of may die, too: its pidfd says so */
end:	!somebody;
	atomic { end_it(A) };
	atomic { end_it(B) };
	state[A] == DEAD && state[B] == DEAD;
	atomic { state[C] = RUNS; lock = C; writers++; assert(writers == 1) };
done:	skip
#endif
}

init {
	atomic {
		state[R] = RUNS;
		writers = 1;
		run kernel();
		run damage();
		run killer();
		run spare(A, B);
		run spare(B, A);
		run rs()
	}
}
