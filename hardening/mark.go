package hardening

import (
	"errors"
	"fmt"
)

// Mark keeps, over restarts and outside of the store, the newest epoch of each ring that this node has used. A ring that was set
// back while no node ran brings back a pepper that was destroyed, and lifts a ban; only a mark shows it. ring is the ring's id,
// so that another ring in its place takes nothing of what is known of this one; "" stands for any ring, with epoch 1 once this node
// has used one.
type Mark interface {
	// Load returns the epoch, 0 when there is none.
	Load(ring string) (epoch uint64, err error)
	// Save keeps the epoch when it is above the one that is kept. It returns when it is on the disk.
	Save(ring string, epoch uint64) error
	// Where says what the operator has to remove so that the ring counts as never seen.
	Where(ring string) string
}

// checkMark says whether the first state of a ring that this process sees may be the one. The mark is read anew at each look: a
// ring that is refused opens when the operator has removed its mark, without a restart.
func (r *Ring) checkMark(ring string, epoch uint64) error {
	if r.cfg.Mark == nil {
		return nil
	}
	seen, err := r.cfg.Mark.Load(ring)
	switch {
	case err != nil:
		return r.locked(fmt.Errorf("what this node has noted of it cannot be read: %w; mend or remove %s", err, r.cfg.Mark.Where(ring)))
	case epoch < seen:
		return r.locked(fmt.Errorf("it has epoch %d and this node has used epoch %d: the store was set back, or somebody put an old ring there; restore the newest backup; if you restored an older one on purpose, remove %s, and then order again what has been ordered since it was made (`anteroom keys ring status` shows the peppers: `destroy`, `retire` and `keys compromised` are undone)", epoch, seen, r.cfg.Mark.Where(ring)))
	}
	return nil
}

// checkAbsent says whether a store without this ring may get a new one. A node that has used one would else make a second ring
// over the first one's records: none of them verifies, and those made meanwhile do not verify when the store is restored.
func (r *Ring) checkAbsent() error {
	if r.cfg.Mark == nil {
		return nil
	}
	switch seen, err := r.cfg.Mark.Load(anyRing); {
	case err != nil:
		return r.locked(fmt.Errorf("what this node has noted of it cannot be read: %w; mend or remove %s", err, r.cfg.Mark.Where(anyRing)))
	case seen > 0:
		return r.locked(fmt.Errorf("the store has none and this node has used one: the store was emptied, or another one is in its place; restore the newest backup, or bring the ring with 'anteroom keys ring import'; if a new ring shall begin, with which no record made so far verifies, remove %s", r.cfg.Mark.Where(anyRing)))
	}
	return nil
}

// anyRing is the name under which a Mark knows that there was a ring.
const anyRing = ""

// saveMark notes the state of a ring before it is used. A ring whose mark cannot be written is used all the same: nobody could
// sign in for the sake of an attack that needs the store besides. Called with r.syncing held.
func (r *Ring) saveMark(o *openRing) {
	if r.cfg.Mark == nil || r.marked == o.file.Epoch && r.markedRing == o.file.Ring {
		return
	}
	if err := errors.Join(r.cfg.Mark.Save(anyRing, 1), r.cfg.Mark.Save(o.file.Ring, o.file.Epoch)); err != nil {
		if text := err.Error(); text != r.markTrouble {
			r.markTrouble = text
			r.cfg.Logger.Error("cannot note what was seen of the password ring; one that is set back before the next start would not be noticed", "ring", r.cfg.Name, "error", err)
		}
		return
	}
	r.markTrouble = ""
	r.marked, r.markedRing = o.file.Epoch, o.file.Ring
}
