// Package fincare is a sample application: the finance office of an invented
// hospital. Its staff follow invoices, record payments and send claims to the
// patients' insurers.
//
// [New] returns the app as an http.Handler; its records are in fincare.json in
// Config.Dir. Pages: /, /invoices/{id}, /claims and /payments. JSON: everything
// below /api/, which lists itself at /api/.
//
// Amounts are whole cents. An invoice is never paid twice over: payments, and
// claims that the insurer has not decided or not paid yet, together stay within
// its total. A claim is submitted, then accepted or rejected, and an accepted
// one is paid, which records the payment; there is no other way.
//
// The app trusts whoever reaches it. It knows no roles and no sign-in, and it is
// there to be protected by something in front of it.
package fincare

import (
	"embed"
	"fmt"
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

// Item is a line of an invoice.
type Item struct {
	Text  string `json:"text"`
	Cents int64  `json:"cents"`
}

// Invoice is what a patient owes. Issued and Due are days.
type Invoice struct {
	ID      string `json:"id"`
	Patient string `json:"patient"`
	Items   []Item `json:"items"`
	Issued  string `json:"issued"`
	Due     string `json:"due"`
}

// Payment is money that came in for an invoice.
type Payment struct {
	ID      string    `json:"id"`
	Invoice string    `json:"invoice"`
	Cents   int64     `json:"cents"`
	Method  string    `json:"method"`
	At      time.Time `json:"at"`
}

// Claim asks the insurer to pay for an invoice. Status is "submitted",
// "accepted", "rejected" or "paid".
type Claim struct {
	ID      string    `json:"id"`
	Invoice string    `json:"invoice"`
	Insurer string    `json:"insurer"`
	Number  string    `json:"insurance_no"`
	Cents   int64     `json:"cents"`
	Status  string    `json:"status"`
	Changed time.Time `json:"changed"`
}

type records struct {
	Next     int       `json:"next"`
	Invoices []Invoice `json:"invoices"`
	Payments []Payment `json:"payments"`
	Claims   []Claim   `json:"claims"`
}

// methods are the ways to pay that a person can choose. "insurer" is recorded
// when a claim is paid.
var methods = []string{"bank transfer", "card", "cash"}

// steps are the legal transitions of a claim.
var steps = map[string][]string{"submitted": {"accepted", "rejected"}, "accepted": {"paid"}}

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
	if a.state, err = synthetic.OpenState(c.Dir, "fincare", func() (*records, error) { return first(c.Now()), nil }); err != nil {
		return nil, err
	}
	a.Site, err = synthetic.NewSite(synthetic.SiteConfig{
		Name: "FinCare", Class: "fincare", Tagline: "invoices, payments and claims", Pages: sub, Logger: c.Logger,
		Nav:   []synthetic.Link{{Path: "/payments", Text: "Payments"}, {Path: "/claims", Text: "Claims"}},
		Funcs: map[string]any{"money": money, "steps": func(status string) []string { return steps[status] }},
		Notices: map[string]string{"issued": "The invoice is issued.", "paid": "The payment is recorded.",
			"claimed": "The claim is submitted.", "moved": "The claim is updated."},
	})
	if err != nil {
		return nil, err
	}
	a.routes()
	a.api()
	return a, nil
}

// issue adds an invoice with one item, due in 30 days.
func (a *app) issue(patient, text string, cents int64) (Invoice, error) {
	n := Invoice{Patient: patient, Issued: a.now().UTC().Format(synthetic.Day), Due: a.now().UTC().AddDate(0, 0, 30).Format(synthetic.Day)}
	if _, err := synthetic.NeedPatient(patient, http.StatusUnprocessableEntity); err != nil {
		return n, err
	}
	text, err := synthetic.Line("description", text, 120)
	if err != nil {
		return n, err
	}
	if cents <= 0 || cents > maxCents {
		return n, badAmount()
	}
	n.Items = []Item{{text, cents}}
	err = a.state.Change(func(r *records) error {
		n.ID = r.id("inv")
		r.Invoices = append(r.Invoices, n)
		return nil
	})
	return n, err
}

// pay records a payment of at most what is open and not claimed.
func (a *app) pay(invoice string, cents int64, method string) (Payment, error) {
	n := Payment{Invoice: invoice, Cents: cents, Method: method, At: a.now().UTC().Truncate(time.Second)}
	if !slices.Contains(methods, method) {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose how it was paid.")
	}
	err := a.state.Change(func(r *records) error {
		if err := r.room(invoice, cents); err != nil {
			return err
		}
		n.ID = r.id("pay")
		r.Payments = append(r.Payments, n)
		return nil
	})
	return n, err
}

// claim asks the patient's insurer for at most what is open and not claimed.
func (a *app) claim(invoice string, cents int64) (Claim, error) {
	n := Claim{Invoice: invoice, Cents: cents, Status: "submitted", Changed: a.now().UTC().Truncate(time.Second)}
	err := a.state.Change(func(r *records) error {
		if err := r.room(invoice, cents); err != nil {
			return err
		}
		v, _ := r.view(invoice, n.Changed)
		p, _ := synthetic.FindPatient(v.Patient)
		n.ID, n.Insurer, n.Number = r.id("clm"), p.Insurer, p.InsuranceNo
		r.Claims = append(r.Claims, n)
		return nil
	})
	return n, err
}

// move takes a claim to its next status. A paid claim brings its payment.
func (a *app) move(id, status string) (n Claim, err error) {
	now := a.now().UTC().Truncate(time.Second)
	err = a.state.Change(func(r *records) error {
		i := slices.IndexFunc(r.Claims, func(c Claim) bool { return c.ID == id })
		if i < 0 {
			return synthetic.Refuse(http.StatusNotFound, "There is no such claim.")
		}
		c := &r.Claims[i]
		if !slices.Contains(steps[c.Status], status) {
			return synthetic.Refuse(http.StatusConflict, "A claim that is %s cannot become %q.", c.Status, status)
		}
		c.Status, c.Changed = status, now
		if status == "paid" {
			r.Payments = append(r.Payments, Payment{ID: r.id("pay"), Invoice: c.Invoice, Cents: c.Cents, Method: "insurer", At: now})
		}
		n = *c
		return nil
	})
	return n, err
}

// id returns an identifier that was not used before.
func (r *records) id(prefix string) string {
	r.Next++
	return prefix + strconv.Itoa(r.Next)
}

// room checks that an amount fits into what is open and not claimed.
func (r *records) room(invoice string, cents int64) error {
	v, ok := r.view(invoice, time.Time{})
	switch {
	case !ok:
		return synthetic.Refuse(http.StatusNotFound, "There is no such invoice.")
	case cents <= 0 || cents > maxCents:
		return badAmount()
	case cents > v.Open-v.Claimed:
		return synthetic.Refuse(http.StatusConflict, "Only %s of this invoice is open and not claimed.", money(max(0, v.Open-v.Claimed)))
	}
	return nil
}

var charges = []Item{
	{"Consultation", 9500}, {"Specialist consultation", 16800}, {"Blood panel", 7240}, {"Chest X-ray", 12600}, {"Ultrasound", 18950},
	{"ECG", 6400}, {"Physiotherapy, six sessions", 31200}, {"Day surgery", 148000}, {"Bed, per night", 42500}, {"Vaccination", 3890},
}

// first makes the records of a new installation: two invoices a patient, some
// of them paid, in part or whole, some claimed.
func first(now time.Time) *records {
	r := &records{Next: 2000}
	rnd := synthetic.Rand("fincare")
	today := now.UTC().Truncate(24 * time.Hour)
	for _, p := range synthetic.Patients() {
		for range 2 {
			issued := today.AddDate(0, 0, -rnd.IntN(75))
			v := Invoice{ID: r.id("inv"), Patient: p.ID, Issued: issued.Format(synthetic.Day), Due: issued.AddDate(0, 0, 30).Format(synthetic.Day)}
			var total int64
			for _, k := range rnd.Perm(len(charges))[:1+rnd.IntN(3)] {
				v.Items = append(v.Items, charges[k])
				total += charges[k].Cents
			}
			r.Invoices = append(r.Invoices, v)
			at := issued.Add(34 * time.Hour)
			if at.After(now) {
				continue
			}
			switch rnd.IntN(4) {
			case 0:
				r.Payments = append(r.Payments, Payment{r.id("pay"), v.ID, total, synthetic.Pick(rnd, methods), at})
			case 1:
				r.Payments = append(r.Payments, Payment{r.id("pay"), v.ID, total / 4, synthetic.Pick(rnd, methods), at})
			case 2:
				status := synthetic.Pick(rnd, []string{"submitted", "accepted", "rejected", "paid"})
				r.Claims = append(r.Claims, Claim{r.id("clm"), v.ID, p.Insurer, p.InsuranceNo, total * 4 / 5, status, at})
				if status == "paid" {
					r.Payments = append(r.Payments, Payment{r.id("pay"), v.ID, total * 4 / 5, "insurer", at})
				}
			}
		}
	}
	return r
}

func badAmount() error {
	return synthetic.Refuse(http.StatusUnprocessableEntity, "Please give an amount above zero and up to %s, like 12.50.", money(maxCents))
}

// maxCents is the largest amount that the app takes.
const maxCents = 100_000_000

// money shows cents as people read them.
func money(cents int64) string { return fmt.Sprintf("%d.%02d", cents/100, cents%100) }
