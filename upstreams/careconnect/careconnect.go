// Package careconnect is a sample application: the patients' portal of an
// invented hospital. People see, book and cancel appointments, write to their
// care team, and keep a portal PIN from the time before.
//
// [New] returns the app as an http.Handler; its records are in careconnect.json
// in Config.Dir. Pages: /, /patients/{id} and /pin. JSON: everything below
// /api/, which lists itself at /api/.
//
// The app trusts whoever reaches it. It knows no roles and no sign-in, and it is
// there to be protected by something in front of it.
//
// The PIN is the one secret that it keeps. It is asked below /pin only, and it
// is stored as the record that a password hardening service on the same host
// makes of it (see pin.go): the PIN itself is never on this app's disk, and a
// stolen careconnect.json cannot be tried against all 10,000 PINs elsewhere.
// When the service cannot be reached, the page says so and nothing changes.
package careconnect

import (
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
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

	// HMACURL is the password hardening service, such as
	// https://localhost:8444/hmac-service. Empty: the PIN pages say that it is
	// not available. TokenFile holds the credential for it, CAFile the PEM
	// certificates that it is trusted by (empty: those of the system). Both are
	// read at each use, so they may appear and change after the start.
	HMACURL   string
	TokenFile string
	CAFile    string
}

// Appointment is a patient's date with a clinician. Status is "booked" or
// "cancelled".
type Appointment struct {
	ID        string    `json:"id"`
	Patient   string    `json:"patient"`
	Clinician string    `json:"clinician"`
	At        time.Time `json:"at"`
	Reason    string    `json:"reason"`
	Status    string    `json:"status"`
}

// Message is one letter between a patient and the care team. From is "patient"
// or "care team".
type Message struct {
	ID      string    `json:"id"`
	Patient string    `json:"patient"`
	From    string    `json:"from"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"`
	At      time.Time `json:"at"`
}

// records is the content of the state file.
type records struct {
	Next         int               `json:"next"` // number of the next record
	Appointments []Appointment     `json:"appointments"`
	Messages     []Message         `json:"messages"`
	PINs         map[string]string `json:"pins"` // patient to record of the hardening service
}

type app struct {
	*synthetic.Site
	state *synthetic.State[records]
	now   func() time.Time
	pins  *hardener
}

// New opens the state and returns the app. It fails when the state file is
// damaged or HMACURL is not an https address.
func New(c Config) (http.Handler, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	sub, err := fs.Sub(pages, "pages")
	if err != nil {
		return nil, err
	}
	a := &app{now: c.Now}
	if a.pins, err = newHardener(c); err != nil {
		return nil, err
	}
	if a.state, err = synthetic.OpenState(c.Dir, "careconnect", func() (*records, error) { return first(c.Now()), nil }); err != nil {
		return nil, err
	}
	a.Site, err = synthetic.NewSite(synthetic.SiteConfig{
		Name: "CareConnect", Class: "careconnect", Tagline: "your appointments and your care team",
		Nav: []synthetic.Link{{Path: "/pin", Text: "Portal PIN"}}, Pages: sub, Logger: c.Logger,
		Notices: map[string]string{
			"booked": "Your appointment is booked.", "cancelled": "The appointment is cancelled.",
			"sent": "Your message was sent to the care team.", "pin": "The portal PIN is set.",
		},
	})
	if err != nil {
		return nil, err
	}
	a.Handle("GET /{$}", a.home)
	a.Handle("GET /patients/{id}", a.patient)
	a.forms()
	a.Handle("GET /pin", a.pinPage)
	a.Handle("POST /pin/set", a.pinSet)
	a.Handle("POST /pin/check", a.pinCheck)
	a.api()
	return a, nil
}

// book adds an appointment. at is in the form synthetic.Minute.
func (a *app) book(patient, clinician, at, reason string) (Appointment, error) {
	n := Appointment{Patient: patient, Clinician: clinician, Status: "booked"}
	if _, err := synthetic.NeedPatient(patient, http.StatusNotFound); err != nil {
		return n, err
	}
	if !slices.Contains(synthetic.Clinicians(), clinician) {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose one of our clinicians.")
	}
	var err error
	if n.At, err = time.Parse(synthetic.Minute, at); err != nil {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please give day and time of the appointment like %s.", synthetic.Minute)
	}
	if now := a.now(); !n.At.After(now) || n.At.After(now.AddDate(1, 0, 0)) {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "An appointment must be in the future, and within a year.")
	}
	if n.Reason, err = synthetic.Line("reason", reason, 120); err != nil {
		return n, err
	}
	err = a.state.Change(func(r *records) error {
		for _, o := range r.Appointments {
			if o.Status == "booked" && o.At.Equal(n.At) && (o.Clinician == n.Clinician || o.Patient == n.Patient) {
				return synthetic.Refuse(http.StatusConflict, "This time is taken. Please choose another one.")
			}
		}
		n.ID = r.id("a")
		r.Appointments = append(r.Appointments, n)
		return nil
	})
	return n, err
}

// cancel takes back an appointment that is still to come.
func (a *app) cancel(patient, id string) (n Appointment, err error) {
	err = a.state.Change(func(r *records) error {
		i := slices.IndexFunc(r.Appointments, func(o Appointment) bool { return o.ID == id && o.Patient == patient })
		if i < 0 {
			return synthetic.Refuse(http.StatusNotFound, "There is no such appointment.")
		}
		o := &r.Appointments[i]
		if o.Status != "booked" {
			return synthetic.Refuse(http.StatusConflict, "This appointment is cancelled already.")
		}
		if !o.At.After(a.now()) {
			return synthetic.Refuse(http.StatusConflict, "This appointment is over and cannot be cancelled.")
		}
		o.Status = "cancelled"
		n = *o
		return nil
	})
	return n, err
}

// send adds a message of a patient to the care team.
func (a *app) send(patient, subject, text string) (Message, error) {
	n := Message{Patient: patient, From: "patient", At: a.now().UTC().Truncate(time.Second)}
	_, err := synthetic.NeedPatient(patient, http.StatusNotFound)
	if err != nil {
		return n, err
	}
	if n.Subject, err = synthetic.Line("subject", subject, 120); err != nil {
		return n, err
	}
	if n.Text, err = synthetic.Text("message", text, 4000); err != nil {
		return n, err
	}
	err = a.state.Change(func(r *records) error {
		n.ID = r.id("m")
		r.Messages = append(r.Messages, n)
		return nil
	})
	return n, err
}

// id returns an identifier that was not used before.
func (r *records) id(prefix string) string {
	r.Next++
	return prefix + strconv.Itoa(r.Next)
}

var (
	reasons = []string{"Check-up", "Blood pressure review", "Results of the blood test", "Back pain", "Vaccination", "Skin rash", "Follow-up after surgery"}
	letters = [][4]string{
		{"Repeat prescription", "Could I have my tablets again before the holiday?", "Re: Repeat prescription", "We have sent the prescription. It is ready from tomorrow."},
		{"Test results", "Are my results from last week back?", "Re: Test results", "They are, and all is well. The doctor will go through them with you at your next appointment."},
		{"Sick note", "I was away from work for three days and need a note.", "Re: Sick note", "Please call in at the front desk, the note is ready to be signed."},
		{"Travel", "Do I need a vaccination for a trip to the mountains in spring?", "Re: Travel", "Please book a vaccination appointment about six weeks ahead."},
	}
)

// first makes the records of a new installation: two appointments a patient,
// one of them to come, and letters of every third.
func first(now time.Time) *records {
	r := &records{Next: 4000, PINs: map[string]string{}}
	rnd := synthetic.Rand("careconnect")
	today := now.UTC().Truncate(24 * time.Hour)
	for i, p := range synthetic.Patients() {
		// One slot a patient and day: no clinician is booked twice at a time.
		slot := time.Duration(8*60+(i%16)*30) * time.Minute
		for _, day := range []int{-1 - rnd.IntN(90), 2 + i} {
			at := today.AddDate(0, 0, day).Add(slot)
			for at.Weekday() == time.Saturday || at.Weekday() == time.Sunday {
				at = at.AddDate(0, 0, 1)
			}
			if day < 0 && !at.Before(today) {
				at = at.AddDate(0, 0, -7)
			}
			r.Appointments = append(r.Appointments, Appointment{ID: r.id("a"), Patient: p.ID, Clinician: p.Doctor, At: at, Reason: synthetic.Pick(rnd, reasons), Status: "booked"})
		}
		if i%3 == 0 {
			l, at := synthetic.Pick(rnd, letters), today.AddDate(0, 0, -2-rnd.IntN(30)).Add(slot)
			r.Messages = append(r.Messages,
				Message{r.id("m"), p.ID, "patient", l[0], l[1], at},
				Message{r.id("m"), p.ID, "care team", l[2], fmt.Sprintf("%s\n%s", l[3], strings.Split(p.Doctor, ",")[0]), at.Add(5 * time.Hour)})
		}
	}
	return r
}
