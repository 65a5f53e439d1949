// Package medrecords is a sample application: the patient charts of an invented
// hospital. Its doctors read and add encounters, allergies and observations.
//
// [New] returns the app as an http.Handler; its records are in medrecords.json
// in Config.Dir. Pages: / (with a search) and /patients/{id}. JSON: everything
// below /api/, which lists itself at /api/.
//
// A chart only grows: nothing in it is changed or taken out. Diagnoses come from
// an ICD-10-like list, observations from a LOINC-like one, with values in the
// range that a living person can have.
//
// The app trusts whoever reaches it. It knows no roles and no sign-in, and it is
// there to be protected by something in front of it.
package medrecords

import (
	"embed"
	"io/fs"
	"log/slog"
	"math"
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
}

// Encounter is a visit with its diagnosis.
type Encounter struct {
	ID        string         `json:"id"`
	Patient   string         `json:"patient"`
	At        time.Time      `json:"at"`
	Clinician string         `json:"clinician"`
	Diagnosis synthetic.Code `json:"diagnosis"`
	Note      string         `json:"note"`
}

// Allergy is a substance to be avoided. Severity is one of severities.
type Allergy struct {
	ID        string    `json:"id"`
	Patient   string    `json:"patient"`
	At        time.Time `json:"at"`
	Substance string    `json:"substance"`
	Reaction  string    `json:"reaction"`
	Severity  string    `json:"severity"`
}

// Observation is one measured value.
type Observation struct {
	ID      string    `json:"id"`
	Patient string    `json:"patient"`
	At      time.Time `json:"at"`
	Code    string    `json:"code"`
	Text    string    `json:"text"`
	Value   float64   `json:"value"`
	Unit    string    `json:"unit"`
}

type records struct {
	Next         int           `json:"next"`
	Encounters   []Encounter   `json:"encounters"`
	Allergies    []Allergy     `json:"allergies"`
	Observations []Observation `json:"observations"`
}

var severities = []string{"mild", "moderate", "severe"}

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
	if a.state, err = synthetic.OpenState(c.Dir, "medrecords", func() (*records, error) { return first(c.Now()), nil }); err != nil {
		return nil, err
	}
	a.Site, err = synthetic.NewSite(synthetic.SiteConfig{
		Name: "MedRecords", Class: "medrecords", Tagline: "patient charts", Pages: sub, Logger: c.Logger,
		Notices: map[string]string{"encounter": "The encounter is in the chart.", "allergy": "The allergy is in the chart.",
			"observation": "The observation is in the chart."},
	})
	if err != nil {
		return nil, err
	}
	a.routes()
	a.api()
	return a, nil
}

// visit is what a person enters of an encounter.
type visit struct {
	Clinician string `json:"clinician"`
	Diagnosis string `json:"diagnosis"` // code
	Note      string `json:"note"`
}

func (a *app) addEncounter(patient string, in visit) (Encounter, error) {
	n := Encounter{Patient: patient, Clinician: in.Clinician, At: a.now().UTC().Truncate(time.Second)}
	_, err := synthetic.NeedPatient(patient, http.StatusNotFound)
	if err != nil {
		return n, err
	}
	if !slices.Contains(synthetic.Clinicians(), n.Clinician) {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose one of our clinicians.")
	}
	var ok bool
	if n.Diagnosis, ok = synthetic.FindCode(synthetic.Diagnoses(), in.Diagnosis); !ok {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose a diagnosis from the list.")
	}
	if n.Note, err = synthetic.Text("note", in.Note, 4000); err != nil {
		return n, err
	}
	err = a.state.Change(func(r *records) error {
		n.ID = r.id("e")
		r.Encounters = append(r.Encounters, n)
		return nil
	})
	return n, err
}

// reaction is what a person enters of an allergy.
type reaction struct {
	Substance string `json:"substance"`
	Reaction  string `json:"reaction"`
	Severity  string `json:"severity"`
}

func (a *app) addAllergy(patient string, in reaction) (Allergy, error) {
	n := Allergy{Patient: patient, Severity: in.Severity, At: a.now().UTC().Truncate(time.Second)}
	_, err := synthetic.NeedPatient(patient, http.StatusNotFound)
	if err != nil {
		return n, err
	}
	if n.Substance, err = synthetic.Line("substance", in.Substance, 80); err != nil {
		return n, err
	}
	if n.Reaction, err = synthetic.Line("reaction", in.Reaction, 120); err != nil {
		return n, err
	}
	if !slices.Contains(severities, n.Severity) {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose how severe it is: %s.", strings.Join(severities, ", "))
	}
	err = a.state.Change(func(r *records) error {
		for _, o := range r.Allergies {
			if o.Patient == n.Patient && strings.EqualFold(o.Substance, n.Substance) {
				return synthetic.Refuse(http.StatusConflict, "This allergy is in the chart already.")
			}
		}
		n.ID = r.id("al")
		r.Allergies = append(r.Allergies, n)
		return nil
	})
	return n, err
}

// value is what a person enters of an observation.
type value struct {
	Code  string  `json:"code"`
	Value float64 `json:"value"`
}

func (a *app) addObservation(patient string, in value) (Observation, error) {
	n := Observation{Patient: patient, At: a.now().UTC().Truncate(time.Second), Value: in.Value}
	if _, err := synthetic.NeedPatient(patient, http.StatusNotFound); err != nil {
		return n, err
	}
	list := synthetic.Measures()
	i := slices.IndexFunc(list, func(m synthetic.Measure) bool { return m.Code == in.Code })
	if i < 0 {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "Please choose from the list what was measured.")
	}
	m := list[i]
	// The form of the comparison refuses NaN as well.
	if !(in.Value >= m.Min && in.Value <= m.Max) {
		return n, synthetic.Refuse(http.StatusUnprocessableEntity, "%s must be between %g and %g %s.", m.Text, m.Min, m.Max, m.Unit)
	}
	n.Code, n.Text, n.Unit = m.Code, m.Text, m.Unit
	err := a.state.Change(func(r *records) error {
		n.ID = r.id("o")
		r.Observations = append(r.Observations, n)
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
	notes = []string{"Feels well, no complaints today.", "Symptoms better since the last visit. Continue as before.", "New complaint since about two weeks. Blood test ordered.",
		"Discussed diet and exercise. Review in three months.", "Worse at night. Medication adjusted.", "Examination without findings. Reassured."}
	allergies = [][2]string{{"Penicillin", "Rash"}, {"Latex", "Itching and redness"}, {"Peanut", "Swelling of the lips"}, {"Ibuprofen", "Wheezing"},
		{"House dust mite", "Runny nose"}, {"Bee venom", "Swelling"}, {"Iodinated contrast", "Hives"}}
)

// first makes the records of a new installation: each patient has a few
// encounters, in each of which something was measured, and perhaps an allergy.
func first(now time.Time) *records {
	r := &records{Next: 5000}
	rnd := synthetic.Rand("medrecords")
	today := now.UTC().Truncate(24 * time.Hour)
	list := synthetic.Measures()
	for _, p := range synthetic.Patients() {
		main := synthetic.Pick(rnd, synthetic.Diagnoses())
		for visit := range 2 + rnd.IntN(3) {
			at := today.AddDate(0, 0, -7-visit*70-rnd.IntN(60)).Add(time.Duration(8*60+rnd.IntN(20)*30) * time.Minute)
			d := main
			if rnd.IntN(3) == 0 {
				d = synthetic.Pick(rnd, synthetic.Diagnoses())
			}
			r.Encounters = append(r.Encounters, Encounter{r.id("e"), p.ID, at, p.Doctor, d, synthetic.Pick(rnd, notes)})
			for _, k := range append([]int{0, 1, 2}, 3+rnd.IntN(len(list)-3)) {
				m := list[k]
				v := m.Low + rnd.Float64()*(m.High-m.Low)
				if m.High < 20 {
					v = math.Round(v*10) / 10
				} else {
					v = math.Round(v)
				}
				r.Observations = append(r.Observations, Observation{r.id("o"), p.ID, at.Add(5 * time.Minute), m.Code, m.Text, v, m.Unit})
			}
		}
		if rnd.IntN(3) == 0 {
			s := synthetic.Pick(rnd, allergies)
			r.Allergies = append(r.Allergies, Allergy{r.id("al"), p.ID, today.AddDate(-1, 0, -rnd.IntN(900)), s[0], s[1], synthetic.Pick(rnd, severities)})
		}
	}
	return r
}
