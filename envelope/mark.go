package envelope

import (
	"fmt"
	"strconv"
	"strings"
)

// Mark keeps, over restarts and outside of the store, what this node has last seen of the
// ring. Load returns "" when there is nothing. A ring that was set back while this node did
// not run brings a destroyed key back, and one that a former master vouches for makes
// whoever has that one's key the master; only a mark shows either.
type Mark interface {
	Load() (string, error)
	Save(mark string) error
	fmt.Stringer // where it is, for the one who has to remove it
}

// markOf is what is kept: the ring's first key, which stays in it for ever and so names it,
// the epoch, who has proved it, and which found masters this node knows.
func (c *core) markOf(r *ring) string {
	text := fmt.Sprintf("%s %d %s", r.Keys[0].ID, r.Epoch, r.provedBy)
	if found := c.knownFound(); len(found) > 0 {
		text += " " + strings.Join(found, ",")
	}
	return text
}

// checkMark says whether the first ring that this process sees may be the one. Another ring
// altogether, of a store that was replaced, may when the present master has proved it.
func (c *core) checkMark(next *ring) error {
	if c.cfg.Mark == nil {
		return nil
	}
	text, err := c.cfg.Mark.Load()
	if err != nil {
		return fmt.Errorf("%w: reading what was last seen of the key ring %q: %w", ErrRefused, c.cfg.Name, err)
	}
	if text == "" {
		return nil
	}
	why := ""
	part := strings.Split(text, " ")
	var epoch uint64
	whole := len(part) == 3 || len(part) == 4 && part[3] != ""
	if whole {
		epoch, err = strconv.ParseUint(part[1], 10, 64)
	}
	switch ours := c.cfg.Master.ID(); {
	case !whole || err != nil:
		why = "what this node has noted of it is damaged"
	case part[0] == next.Keys[0].ID && next.Epoch < epoch:
		why = fmt.Sprintf("it has epoch %d and this node has seen %d: the store was set back, or somebody put an old ring there", next.Epoch, epoch)
	case part[2] == ours && next.provedBy != ours:
		why = fmt.Sprintf("it is proved by the former master %s, after it was by %s", next.provedBy, ours)
	default:
		return nil
	}
	return fmt.Errorf("%w: the key ring %q in the store is not taken: %s; if you restored a backup on purpose, remove %s, start, and name every key again that was compromised since (`anteroom keys compromised`)", ErrRefused, c.cfg.Name, why, c.cfg.Mark)
}

// saveMark notes a ring that was taken. The caller is the one who looks.
func (c *core) saveMark(r *ring) {
	text := c.markOf(r)
	if c.cfg.Mark == nil || text == c.marked {
		return
	}
	if err := c.cfg.Mark.Save(text); err != nil {
		c.cfg.Logger.Error("cannot note what was seen of the key ring; one that is set back before the next start would not be noticed", "ring", c.cfg.Name, "error", err)
		return
	}
	c.marked = text
}
