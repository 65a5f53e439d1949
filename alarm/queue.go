package alarm

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

const (
	maxQueue     = 256 // events that wait; one more is given up at once
	closeTimeout = 3 * time.Second
)

// delays are between the tries of one event. Together with the tries they stay below three minutes: package emergency
// leaves an event to whoever raised it for that long.
var delays = [...]time.Duration{time.Second, 5 * time.Second, 20 * time.Second, 60 * time.Second}

// job is one event on its way.
type job struct {
	event Event
	done  func(error)
	tries int
	next  time.Time // of the machine's clock, as timers are
}

func (a *Alarm) enqueue(j *job) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return fmt.Errorf("%w: alarms are closed", ErrDelivery)
	case len(a.queue) >= maxQueue:
		return fmt.Errorf("%w: %d others wait for it", ErrDelivery, len(a.queue))
	}
	j.next = time.Now()
	a.queue = append(a.queue, j)
	if !a.running {
		a.running = true
		a.work.Go(a.send) // ends when the queue is empty
	}
	a.nudge()
	return nil
}

func (a *Alarm) nudge() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// send delivers until nothing waits. An event whose time has not come holds up no other one.
func (a *Alarm) send() {
	for {
		j, wait, closing := a.pick()
		switch {
		case j == nil && wait == 0:
			return
		case j == nil:
			a.rest(wait)
			continue
		}
		err := a.hook.post(a.life, &j.event)
		if err == nil {
			j.done(nil)
			continue
		}
		j.tries++
		if closing || j.tries > len(delays) || errors.Is(err, ErrRefused) {
			a.giveUp(&j.event, err)
			j.done(err)
			continue
		}
		a.logger().Warn("an alarm did not reach the webhook; it is sent again", "alarm", j.event.Kind, "id", j.event.ID, "try", j.tries, "error", err)
		a.putBack(j)
	}
}

// pick takes the event whose turn it is, or says how long there is none. No event and no time: nothing waits, and the
// caller ends.
func (a *Alarm) pick() (j *job, wait time.Duration, closing bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.queue) == 0 {
		a.running = false
		return nil, 0, a.closed
	}
	i := 0
	for k, other := range a.queue {
		if other.next.Before(a.queue[i].next) {
			i = k
		}
	}
	if wait := time.Until(a.queue[i].next); wait > 0 && !a.closed {
		return nil, wait, false
	}
	j = a.queue[i]
	a.queue = slices.Delete(a.queue, i, i+1)
	return j, 0, a.closed
}

func (a *Alarm) putBack(j *job) {
	a.mu.Lock()
	defer a.mu.Unlock()
	j.next = time.Now().Add(delays[j.tries-1])
	a.queue = append(a.queue, j)
}

// rest waits until a time has passed, an event came or Close was called.
func (a *Alarm) rest(wait time.Duration) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-a.wake:
	}
}
