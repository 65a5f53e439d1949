package caddymodule

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/anteroom-proxy/anteroom/hardening"
)

// pepperMark keeps the epochs of password rings beside the master key, a line for each ring of each store.
type pepperMark struct {
	dir         string
	store, ring string // names of the store and of the ring in it
}

// maxPepperMarks bounds the lines of the file.
const maxPepperMarks = 256

// peppering keeps a mark from falling: around a reload two configs of one process follow a ring.
var peppering sync.Mutex

func (m pepperMark) file(id string) markFile {
	sum := sha256.Sum256([]byte(m.store + "\x00" + m.ring + "\x00" + id))
	return markFile{path: filepath.Join(m.dir, "pepper.mark"), store: hex.EncodeToString(sum[:8]), most: maxPepperMarks}
}

// Load implements hardening.Mark.
func (m pepperMark) Load(id string) (uint64, error) {
	text, err := m.file(id).Load()
	if err != nil || text == "" {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// Save implements hardening.Mark.
func (m pepperMark) Save(id string, epoch uint64) error {
	peppering.Lock()
	defer peppering.Unlock()
	if had, err := m.Load(id); err != nil || had >= epoch {
		return err
	}
	return m.file(id).Save(strconv.FormatUint(epoch, 10))
}

// Where implements hardening.Mark.
func (m pepperMark) Where(id string) string {
	f := m.file(id)
	return fmt.Sprintf("the line that begins with %s from %s", f.store, f.path)
}

var _ hardening.Mark = pepperMark{}
