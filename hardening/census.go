package hardening

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/anteroom-proxy/anteroom/store"
)

// censusTime is how long a census may take: an older count decides nothing.
const censusTime = 24 * time.Hour

// Count goes on with a census: it counts which peppers records need, and keeps the sums in the store, so that the parts may
// come over several nodes. An empty id begins a new one. done finishes it, and from then on the ring decides by it which
// pepper may go. A part that is sent again counts again, which never makes a needed pepper look unneeded; a part that is
// left out does.
func (r *Ring) Count(ctx context.Context, id string, records []string, done bool) (Census, error) {
	waiting, cancel := context.WithTimeout(ctx, waitReady)
	defer cancel()
	open, err := r.wait(waiting)
	if err != nil {
		return Census{}, err
	}
	part := newCensus()
	for _, text := range records {
		rec, err := parseRecord(text)
		if err != nil {
			part.foreign()
			continue
		}
		part.add(&rec, open)
	}
	return r.goOn(ctx, open, id, part, done)
}

func newCensus() Census { return Census{Versions: map[string]int{}, Outermost: map[string]int{}} }

func (c *Census) foreign() { c.Records++; c.Foreign++ }

// add counts one record. One that names a pepper which this ring does not have is foreign, and counts for the others that it
// names: too much rather than too little.
func (c *Census) add(rec *record, open *openRing) {
	c.Records++
	if rec.ring != open.file.Ring {
		c.Foreign++
		return
	}
	unknown := 0
	for i, id := range rec.layers {
		if open.find(id) < 0 {
			unknown = 1
			continue
		}
		c.Versions[id]++
		if i == len(rec.layers)-1 {
			c.Outermost[id]++
		}
	}
	c.Foreign += unknown
}

// goOn adds a part to the census of that id in the store.
func (r *Ring) goOn(ctx context.Context, open *openRing, id string, part Census, done bool) (Census, error) {
	fresh := id == ""
	if fresh {
		var b [8]byte
		rand.Read(b[:])
		id = hex.EncodeToString(b[:])
	} else if !isRingID(id) {
		return Census{}, fmt.Errorf("counting records: %w: the census is not an id of ours", ErrInput)
	}
	key := labelCensus + "/" + open.file.Ring + "/" + id
	for round := range maxRaces { // of an application that counts many parts at the same time
		if err := store.Pause(ctx, round); err != nil {
			return Census{}, fmt.Errorf("counting records: %w: %w", ErrBusy, err)
		}
		sum, old := newCensus(), []byte(nil)
		sum.ID, sum.Began = id, r.cfg.Now().UTC().Round(0) // exact: a pepper changes its state at a moment, not in a second
		if !fresh {
			var err error
			old, err = r.cfg.Store.Get(ctx, key)
			switch {
			case errors.Is(err, store.ErrNotFound):
				return Census{}, fmt.Errorf("counting records: %w: no such census is under way; begin a new one", ErrInput)
			case err != nil:
				return Census{}, fmt.Errorf("counting records: %w: %w", ErrWaiting, err)
			}
			if err := json.Unmarshal(old, &sum); err != nil {
				return Census{}, fmt.Errorf("counting records: %w: the census cannot be read", ErrWaiting)
			}
		}
		sum.join(part)
		if done && sum.Records == 0 {
			return Census{}, fmt.Errorf("counting records: %w: a census of no record would say that no pepper is needed", ErrInput)
		}
		text, err := json.Marshal(sum)
		if err != nil {
			return Census{}, fmt.Errorf("counting records: %w", err)
		}
		switch err := r.cfg.Store.CompareAndSwap(ctx, key, old, text, sum.Began.Add(censusTime)); {
		case errors.Is(err, store.ErrConflict):
			continue
		case err != nil:
			return Census{}, fmt.Errorf("counting records: %w: %w", ErrWaiting, err)
		case !done:
			return sum, nil
		}
		return r.finish(ctx, key, text, sum)
	}
	return Census{}, fmt.Errorf("counting records: %w: lost %d races for the census", ErrBusy, maxRaces)
}

func (r *Ring) finish(ctx context.Context, key string, text []byte, sum Census) (Census, error) {
	sum.Ended = r.cfg.Now().UTC().Round(0)
	if err := r.KeepCensus(ctx, sum); err != nil {
		return Census{}, err
	}
	// What is left of it ends by itself; gone now, it cannot be continued by mistake.
	if err := r.cfg.Store.CompareAndSwap(ctx, key, text, text, sum.Ended.Add(-time.Second)); err != nil {
		r.cfg.Logger.Debug("a finished census stays in the store until it ends", "ring", r.cfg.Name)
	}
	return sum, nil
}

func (c *Census) join(part Census) {
	c.Records += part.Records
	c.Foreign += part.Foreign
	for id, n := range part.Versions {
		c.Versions[id] += n
	}
	for id, n := range part.Outermost {
		c.Outermost[id] += n
	}
}
