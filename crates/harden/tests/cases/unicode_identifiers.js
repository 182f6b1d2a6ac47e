const \u0061bc = 1, ünï = 2, 𝒳 = 3, \u{62}cd = 4, ℮ = 5; console.log(abc, ünï, 𝒳, bcd, ℮, { ünï, \u{63}: 1 }, { 𝒳: 1 }.𝒳);
class Ω { #ñ = 1; get ñ() { return this.#ñ; } } console.log(new Ω().ñ);
