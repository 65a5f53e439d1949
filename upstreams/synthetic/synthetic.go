// Package synthetic is the invented hospital that the five sample applications
// belong to: its people, its code lists, the way its small web apps look and
// the way they keep their records.
//
// [Patients], [FindPatient], [Clinicians] and the code lists give every app the
// same persons under the same identifiers (p1001 to p1030). They come from a
// generator with a fixed seed, so that two machines show the same demo; [Rand]
// gives an app its own reproducible stream for what it adds. Nobody in here
// exists: names are drawn from two lists, towns and insurers are made up, and
// telephone numbers are from the range that is reserved for drama.
//
// [OpenState] keeps an app's records in one JSON file. A change is on the disk
// when [State.Change] returned nil: temporary file, fsync, rename, fsync of the
// folder. A file that cannot be read is reported by name and never written over.
//
// [NewSite] frames an app: routes, pages, JSON answers and clear error pages for
// people and for programs.
//
// Like many hospital apps of their time these trust whoever reaches them: there
// is no sign-in, no permission and no defence against forged forms. That is the
// point of them. They must be reachable through something that adds all this.
// A Remote-User header is shown as a greeting and has no other effect.
package synthetic

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// seed makes the hospital the same everywhere. Nothing here is secret, so a
// predictable generator is what is wanted.
const seed = 0x616e7465726f6f6d

// Rand returns a reproducible stream of numbers for one purpose, such as the
// name of an app. Equal purposes give equal streams.
func Rand(purpose string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}

// Pick returns one element of list, which must not be empty.
func Pick[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// Patient is one invented person. Born is a date in the form 2006-01-02.
type Patient struct {
	ID          string `json:"id"`
	Given       string `json:"given"`
	Family      string `json:"family"`
	Sex         string `json:"sex"` // "female" or "male"
	Born        string `json:"born"`
	Street      string `json:"street"`
	Town        string `json:"town"`
	Phone       string `json:"phone"`
	Insurer     string `json:"insurer"`
	InsuranceNo string `json:"insurance_no"`
	Doctor      string `json:"doctor"` // one of Clinicians
}

// Name returns the name as lists show it, family name first.
func (p Patient) Name() string { return p.Family + ", " + p.Given }

// count is the number of patients of the hospital.
const count = 30

var (
	women = []string{"Amara", "Brigit", "Celia", "Dunja", "Elif", "Farida", "Greta", "Hana", "Ines", "Jolana", "Kadia", "Leonie", "Mira", "Noor", "Orla"}
	men   = []string{"Anselm", "Bashir", "Casper", "Dragan", "Emeka", "Florian", "Goran", "Henrik", "Ivo", "Joost", "Kofi", "Luca", "Matteo", "Nils", "Osman"}

	families = []string{
		"Abernathy", "Achterberg", "Balodis", "Brandvold", "Castellane", "Cordero", "Delacourt", "Dvorak", "Eriksen", "Fontanelle",
		"Grabowski", "Halloran", "Ibarra", "Jankovic", "Kaplan", "Lindqvist", "Morel", "Ndiaye", "Oyelaran", "Petrov",
		"Quist", "Rasmussen", "Soriano", "Tamura", "Ueland", "Valente", "Whitlock", "Xanthos", "Yilmaz", "Zielinski",
	}
	streets  = []string{"Orchard Row", "Mill Lane", "Harbour Street", "Chapel Hill", "Weavers Close", "Station Road", "Larch Avenue", "Old Market"}
	towns    = []string{"Wexbridge", "Northmere", "Saltby Sound", "Harrowdene"}
	insurers = []string{"Meridian Mutual", "Northmere Health Fund", "Saltby Sickness Society"}
)

var patients = sync.OnceValue(func() []Patient {
	r := Rand("patients")
	names := slices.Clone(families)
	r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	list := make([]Patient, count)
	for i := range list {
		p := Patient{ID: fmt.Sprintf("p%d", 1001+i), Family: names[i], Sex: "female", Given: women[i/2]}
		if i%2 == 1 {
			p.Sex, p.Given = "male", men[i/2]
		}
		p.Born = fmt.Sprintf("%04d-%02d-%02d", 1934+r.IntN(72), 1+r.IntN(12), 1+r.IntN(28))
		p.Street = fmt.Sprintf("%d %s", 1+r.IntN(98), Pick(r, streets))
		p.Town = Pick(r, towns)
		p.Phone = fmt.Sprintf("01632 960%03d", r.IntN(1000))
		p.Insurer = Pick(r, insurers)
		p.InsuranceNo = fmt.Sprintf("%c%08d", p.Insurer[0], r.IntN(100_000_000))
		p.Doctor = Pick(r, clinicians)
		list[i] = p
	}
	return list
})

// Patients returns all patients in the order of their identifiers. The caller
// owns the slice.
func Patients() []Patient { return slices.Clone(patients()) }

// PatientsByName returns all patients as a list for people shows them. The
// caller owns the slice.
func PatientsByName() []Patient {
	list := Patients()
	slices.SortFunc(list, func(a, b Patient) int { return strings.Compare(a.Name(), b.Name()) })
	return list
}

// FindPatient returns the patient with this identifier, and whether there is one.
func FindPatient(id string) (Patient, bool) {
	for _, p := range patients() {
		if p.ID == id {
			return p, true
		}
	}
	return Patient{}, false
}
