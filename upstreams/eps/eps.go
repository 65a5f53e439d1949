// Package eps is a sample application: the electronic prescriptions of an
// invented hospital. A doctor issues and cancels them, the pharmacy dispenses.
//
// [New] returns the app as an http.Handler; its records are in eps.json in
// Config.Dir. Pages: / and /prescriptions/{id}. JSON: everything below /api/,
// which lists itself at /api/.
//
// A prescription is issued, and then either dispensed or cancelled, once and for
// good: of two requests that come at the same time, one is refused.
//
// The app trusts whoever reaches it. It knows no roles and no sign-in, and it is
// there to be protected by something in front of it.
package eps

import (
	"embed"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/anteroom-proxy/anteroom/upstreams/synthetic"
)

//go:embed pages/*.html
var pages embed.FS

// Config is what the app needs to run.
type Config struct {
	Dir    string           // folder of the app's own; made when absent
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil: discard
}

// The states of a prescription.
const (
	issued    = "issued"
	dispensed = "dispensed"
	cancelled = "cancelled"
)

// Prescription is one drug for one patient. Reason says why it was cancelled.
type Prescription struct {
	ID         string         `json:"id"`
	Patient    string         `json:"patient"`
	Prescriber string         `json:"prescriber"`
	Drug       synthetic.Code `json:"drug"`
	Dose       string         `json:"dose"`
	Packs      int            `json:"packs"`
	Issued     time.Time      `json:"issued"`
	Status     string         `json:"status"`
	Changed    time.Time      `json:"changed"`
	Reason     string         `json:"reason,omitempty"`
}

type records struct {
	Next          int            `json:"next"`
	Prescriptions []Prescription `json:"prescriptions"`
}

type app struct {
	*synthetic.Site
	state *synthetic.State[records]
	now   func() time.Time
}

// New opens the state and returns the app. It fails when the state file is
// damaged.
func New(c Config) (http.Handler, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	sub, err := fs.Sub(pages, "pages")
	if err != nil {
		return nil, err
	}
	a := &app{now: c.Now}
	if a.state, err = synthetic.OpenState(c.Dir, "eps", func() (*records, error) { return first(c.Now()), nil }); err != nil {
		return nil, err
	}
	a.Site, err = synthetic.NewSite(synthetic.SiteConfig{
		Name: "EPS", Class: "eps", Tagline: "electronic prescriptions", Pages: sub, Logger: c.Logger,
		Notices: map[string]string{issued: "The prescription is issued.", dispensed: "The prescription is dispensed.", cancelled: "The prescription is cancelled."},
	})
	if err != nil {
		return nil, err
	}
	a.routes()
	a.api()
	return a, nil
}

// order is what a doctor enters.
type order struct {
	Patient    string `json:"patient"`
	Prescriber string `json:"prescriber"`
	Drug       string `json:"drug"` // ATC code
	Dose       string `json:"dose"`
	Packs      int    `json:"packs"`
}

func (a *app) issue(in order) (Prescription, error) {
	now := a.now().UTC().Truncate(time.Second)
	n := Prescription{Patient: in.Patient, Prescriber: in.Prescriber, Packs: in.Packs, Issued: now, Changed: now, Status: issued}
	_, err := synthetic.NeedPatient(in.Patient, http.StatusUnprocessableEntity)
	if err != nil {
		return n, err
	}
	if !slices.Contains(synthetic.Clinicians(), in.Prescriber) {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose one of our clinicians.")
	}
	var ok bool
	if n.Drug, ok = synthetic.FindCode(synthetic.Drugs(), in.Drug); !ok {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose a drug from the list.")
	}
	if n.Dose, err = synthetic.Line("dose", in.Dose, 120); err != nil {
		return n, err
	}
	if in.Packs < 1 || in.Packs > 12 {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "A prescription is for one to twelve packs.")
	}
	err = a.state.Change(func(r *records) error {
		n.ID = r.id()
		r.Prescriptions = append(r.Prescriptions, n)
		return nil
	})
	return n, err
}

func (a *app) dispense(id string) (Prescription, error) { return a.move(id, dispensed, "") }

func (a *app) cancel(id, reason string) (Prescription, error) {
	reason, err := synthetic.Line("reason", reason, 200)
	if err != nil {
		return Prescription{}, err
	}
	return a.move(id, cancelled, reason)
}

// move is the one place where a status changes. Only what is issued can move.
func (a *app) move(id, status, reason string) (n Prescription, err error) {
	err = a.state.Change(func(r *records) error {
		i := slices.IndexFunc(r.Prescriptions, func(p Prescription) bool { return p.ID == id })
		if i < 0 {
			return missing()
		}
		p := &r.Prescriptions[i]
		if p.Status != issued {
			return synthetic.Refuse(http.StatusConflict, "This prescription is %s already and cannot be %s.", p.Status, status)
		}
		p.Status, p.Reason, p.Changed = status, reason, a.now().UTC().Truncate(time.Second)
		n = *p
		return nil
	})
	return n, err
}

func (a *app) find(id string) (Prescription, error) {
	for _, p := range a.state.View().Prescriptions {
		if p.ID == id {
			return p, nil
		}
	}
	return Prescription{}, missing()
}

func missing() error {
	return synthetic.Refuse(http.StatusNotFound, "There is no such prescription.")
}

// list returns the prescriptions of one patient and status, each "" for all,
// the newest first.
func (a *app) list(patient, status string) []Prescription {
	list := []Prescription{}
	for _, p := range slices.Backward(a.state.View().Prescriptions) {
		if (patient == "" || p.Patient == patient) && (status == "" || p.Status == status) {
			list = append(list, p)
		}
	}
	slices.SortStableFunc(list, func(x, y Prescription) int { return y.Issued.Compare(x.Issued) })
	return list
}

// id returns an identifier that was not used before.
func (r *records) id() string {
	r.Next++
	return "rx" + strconv.Itoa(r.Next)
}

var (
	doses   = []string{"1 in the morning", "1 in the morning, 1 at night", "1 three times a day with food", "1 at night", "As needed, at most 4 a day"}
	reasons = []string{"Dose changed", "Patient does not tolerate it", "Issued twice"}
)

// first makes the records of a new installation.
func first(now time.Time) *records {
	r := &records{Next: 6000}
	rnd := synthetic.Rand("eps")
	today := now.UTC().Truncate(24 * time.Hour)
	for _, p := range synthetic.Patients() {
		for k := range 1 + rnd.IntN(3) {
			at := today.AddDate(0, 0, -1-rnd.IntN(60)).Add(time.Duration(8*60+rnd.IntN(500)) * time.Minute)
			n := Prescription{ID: r.id(), Patient: p.ID, Prescriber: p.Doctor, Drug: synthetic.Pick(rnd, synthetic.Drugs()), Dose: synthetic.Pick(rnd, doses),
				Packs: 1 + rnd.IntN(3), Issued: at, Changed: at, Status: issued}
			switch {
			case k > 0 && rnd.IntN(4) == 0:
				n.Status, n.Reason, n.Changed = cancelled, synthetic.Pick(rnd, reasons), at.Add(2*time.Hour)
			case k > 0 || rnd.IntN(2) == 0:
				n.Status, n.Changed = dispensed, at.Add(3*time.Hour)
			}
			r.Prescriptions = append(r.Prescriptions, n)
		}
	}
	return r
}
