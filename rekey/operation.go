package rekey

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// Verb is what an operation does.
type Verb string

// The verbs.
const (
	RotateData         Verb = "rotate-data"
	RotateMaster       Verb = "rotate-master"
	RotateRing         Verb = "rotate-ring"
	Migrate            Verb = "migrate"
	CompromisedData    Verb = "compromised-data"
	CompromisedApps    Verb = "compromised-apps"
	CompromisedMaster  Verb = "compromised-master"
	CompromisedSigning Verb = "compromised-signing"
	CompromisedRing    Verb = "compromised-ring"
	CompromisedClient  Verb = "compromised-client"
	DestroyData        Verb = "destroy-data" // what is left of CompromisedData when something was set aside
)

// The states of an operation.
const (
	StateRunning = "running"
	StateStopped = "stopped" // a person has to decide
	StateDone    = "done"
)

// Operation is the journal's record. Nothing in it is secret.
type Operation struct {
	Version int       `json:"v"`
	ID      string    `json:"id"`
	Verb    Verb      `json:"verb"`
	Target  string    `json:"target"`
	Asker   string    `json:"asker,omitempty"`
	Force   bool      `json:"force,omitempty"`  // go on although some values do not open
	Remove  bool      `json:"remove,omitempty"` // of a migration: the former key file
	State   string    `json:"state"`
	Problem string    `json:"problem,omitempty"` // what keeps it from going on
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended,omitzero"`
	Phase   string    `json:"phase"`
	Pass    int       `json:"pass,omitempty"`
	Cursor  string    `json:"cursor,omitempty"`
	Seen    int       `json:"seen"`    // in this phase
	Changed int       `json:"changed"` // in this phase
	Total   int       `json:"total"`   // values in the store, when it began

	IDs    []string `json:"ids,omitempty"`    // data keys that are to go
	Apps   []string `json:"apps,omitempty"`   // data keys of applications that are to go
	Kills  []string `json:"kills,omitempty"`  // signing keys that are to go
	Fresh  []string `json:"fresh,omitempty"`  // signing keys that were made instead
	Old    []string `json:"old,omitempty"`    // client keys that are to go
	Again  bool     `json:"again,omitempty"`  // signing keys came up under a key that goes, after all had been killed
	Former string   `json:"former,omitempty"` // the master key that is to go
	Master string   `json:"master,omitempty"` // and the one after it

	Before  map[string]int `json:"before,omitempty"`  // values by key, when it began
	After   map[string]int `json:"after,omitempty"`   // values by key, at the end
	Exposed map[string]int `json:"exposed,omitempty"` // values that were under the keys that go, by purpose
	Aside   *Aside         `json:"aside,omitempty"`   // values that open with no key
	Steps   []Step         `json:"steps,omitempty"`
	Notes   []string       `json:"notes,omitempty"` // what the operator has to do

	Owner  string `json:"owner,omitempty"`
	Beat   int    `json:"beat,omitempty"`
	Starts int    `json:"starts,omitempty"` // how often a process began to work at it
}

// Step is one step that was done.
type Step struct {
	Name   string    `json:"name"`
	Began  time.Time `json:"began"`
	Ended  time.Time `json:"ended,omitzero"`
	Count  int       `json:"count,omitempty"`
	Detail string    `json:"detail,omitempty"`
}

const (
	journalVersion = 1
	maxJournal     = 256 << 10
	maxNotes       = 64
)

func (op *Operation) encode() ([]byte, error) {
	text, err := json.Marshal(op)
	if err == nil && len(text) > maxJournal {
		err = errors.New("it is too large")
	}
	if err != nil {
		return nil, fmt.Errorf("encoding the journal of key operations: %w", err)
	}
	return text, nil
}

// decodeOperation reads a journal. What this version does not know it does not touch: a newer one is at work.
func decodeOperation(text []byte) (*Operation, error) {
	op := new(Operation)
	err := errors.New("it is too large")
	if len(text) <= maxJournal {
		decoder := json.NewDecoder(bytes.NewReader(text))
		decoder.DisallowUnknownFields()
		if err = decoder.Decode(op); err == nil && !errors.Is(decoder.Decode(&struct{}{}), io.EOF) {
			err = errors.New("something stands behind it")
		}
	}
	if err == nil {
		err = op.check()
	}
	if err != nil {
		return nil, fmt.Errorf("reading the journal of key operations, which is damaged or of a newer version: %w", err)
	}
	return op, nil
}

func (op *Operation) check() error {
	steps, known := plans[op.Verb]
	switch {
	case op.Version != journalVersion:
		return errors.New("its version is not known")
	case !known || !slices.Contains(steps, op.Phase):
		return errors.New("its verb or phase is not known")
	case op.State != StateRunning && op.State != StateStopped && op.State != StateDone:
		return errors.New("its state is not known")
	case !isRef(op.ID) || op.Began.IsZero():
		return errors.New("it has no id or no time")
	case min(op.Seen, op.Changed, op.Total, op.Pass, op.Beat, op.Starts) < 0:
		return errors.New("a count is negative")
	}
	return nil
}

// isRef accepts what audit.NewRef makes.
func isRef(s string) bool {
	if len(s) != 10 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// stale says whether a value sealed under that key is to be sealed anew.
func (op *Operation) stale(id string) bool {
	if slices.Contains(op.IDs, id) {
		return true
	}
	switch op.Verb {
	case Migrate, RotateMaster, CompromisedMaster, RotateData:
		return len(id) > 3 && id[:3] == "v1:" // sealed by a master key itself
	}
	return false
}

func (op *Operation) clone() *Operation {
	text, err := json.Marshal(op)
	c := new(Operation)
	if err != nil || json.Unmarshal(text, c) != nil {
		return &Operation{}
	}
	return c
}

// kill adds signing keys to those that go.
func (op *Operation) kill(kids []string) {
	for _, kid := range kids {
		if !slices.Contains(op.Kills, kid) {
			op.Kills = append(op.Kills, kid)
		}
	}
}

func (op *Operation) note(text string) {
	if !slices.Contains(op.Notes, text) && len(op.Notes) < maxNotes {
		op.Notes = append(op.Notes, text)
	}
}
