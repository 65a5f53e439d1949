package envelope

import (
	"errors"
	"strings"
	"testing"
)

// paper is a Mark that a test can lose.
type paper struct {
	text string
	bad  error
}

func (p *paper) Load() (string, error) { return p.text, p.bad }
func (p *paper) Save(s string) error   { p.text = s; return p.bad }
func (p *paper) String() string        { return "/the/mark" }

func marked(p *paper) func(*Config) { return func(c *Config) { c.Mark = p } }

// Row 156, row 165: a ring that was set back while this node did not run is refused; the data key in it that leaked and was
// destroyed would seal again.
func TestRow156SetBackWhileDown(t *testing.T) {
	keys, note := new(memory), new(paper)
	e := open(t, keys, "own", local(t, 1), marked(note))
	bad, backup := primary(t, e).ID, keys.snapshot()
	forged := seal(t, e, testLabel, []byte("forged"))
	if _, err := e.Condemn(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	if err := e.Destroy(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	good := keys.snapshot()
	keys.restore(backup)
	next, err := New(Config{Name: "own", Master: local(t, 1), Store: keys, Mark: note})
	if err != nil {
		t.Fatal(err)
	}
	err = next.Start(t.Context())
	refused(t, "a start over an old ring", err, ErrRefused)
	if !strings.Contains(err.Error(), "/the/mark") {
		t.Errorf("the message does not say what to do: %v", err)
	}
	if _, err := next.Open(t.Context(), testLabel, forged); err == nil {
		t.Error("what the destroyed key sealed opens")
	}
	if _, err := next.Seal(t.Context(), testLabel, nil); err == nil {
		t.Error("it seals")
	}
	keys.restore(good)
	if err := next.Start(t.Context()); err != nil {
		t.Error(err)
	}
	// Another store altogether, whose ring the present master made, is none that was set back.
	_ = open(t, new(memory), "own", local(t, 1), marked(note))
	for _, damaged := range []string{"x", "a b c", note.text + " ", " " + note.text} {
		_, err := Start(t.Context(), Config{Name: "own", Master: local(t, 1), Store: keys, Mark: &paper{text: damaged}})
		refused(t, damaged, err, ErrRefused)
	}
	_, err = Start(t.Context(), Config{Name: "own", Master: local(t, 1), Store: keys, Mark: &paper{bad: errors.New("unreadable")}})
	refused(t, "a mark that cannot be read", err, ErrRefused)
}

// Row 155: after a migration a start refuses a ring that the former master vouches for, although its key file is still there:
// somebody may have found it in a backup.
func TestRow155FormerMasterPlantsNothing(t *testing.T) {
	keys, note := new(memory), new(paper)
	_ = open(t, keys, "own", local(t, 1), marked(note))
	former := func(c *Config) { c.Former = []Master{local(t, 1)} }
	e := open(t, keys, "own", newFar(t, 9), former, marked(note))
	before := keys.snapshot()
	if _, err := e.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	planted := new(memory)
	_ = open(t, planted, "own", local(t, 1))
	for name, values := range map[string]map[string][]byte{"the ring before the migration": before, "a ring of the thief's": planted.snapshot()} {
		keys.restore(values)
		_, err := Start(t.Context(), Config{Name: "own", Master: newFar(t, 9), Former: []Master{local(t, 1)}, Store: keys, Mark: note})
		refused(t, name, err, ErrRefused)
	}
}
