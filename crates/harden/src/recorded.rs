//! From the record of a build back to its options, so that it can be repeated.

use protected_model::build::PipelineStep;
use serde::de::DeserializeOwned;

use crate::{Declarations, LegalComments, Obfuscation, Options, Profile, SourcePlace, step};

/// Why a build cannot be repeated from its record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The step is not there.
    #[error("it names no step `{0}`")]
    NoStep(&'static str),
    /// A parameter is missing or of another kind.
    #[error("the step `{step}` has no `{parameter}` that is one")]
    Parameter {
        /// The step.
        step: String,
        /// The parameter.
        parameter: &'static str,
    },
}

impl Options {
    /// Returns the options that a build with this record had, without its secret and its mark, which no record holds.
    ///
    /// # Errors
    /// When the record does not say enough.
    pub fn recorded(pipeline: &[PipelineStep]) -> Result<Self, RecordError> {
        let find = |name: &str| pipeline.iter().find(|step| step.step == name);
        let strip = find(step::STRIP_SOURCE_MAPS).ok_or(RecordError::NoStep(step::STRIP_SOURCE_MAPS))?;
        let policy: String = parameter(strip, "legal_comments")?;
        let mut options = Self {
            legal_comments: LegalComments::ALL
                .into_iter()
                .find(|known| known.name() == policy)
                .ok_or_else(|| missing(strip, "legal_comments"))?,
            bundle: find("bundle").is_some(),
            minify: false,
            escrow: find(step::ESCROW).is_some(),
            ..Self::default()
        };
        if let Some(bundle) = find("bundle") {
            options.keep_names = parameter(bundle, "keep_names")?;
        }
        if let Some(declarations) = find(step::DECLARATIONS) {
            let name: String = parameter(declarations, "declarations")?;
            options.declarations = Declarations::ALL
                .into_iter()
                .find(|known| known.name() == name)
                .ok_or_else(|| missing(declarations, "declarations"))?;
        }
        if let Some(obfuscate) = find(step::OBFUSCATE) {
            options.obfuscation = obfuscation(obfuscate)?;
            options.keep_names = parameter(obfuscate, "keep_names")?;
        }
        if let Some(minify) = find(step::MINIFY) {
            options.minify = true;
            options.keep_names = parameter(minify, "keep_names")?;
        }
        Ok(options)
    }
}

fn obfuscation(step: &PipelineStep) -> Result<Obfuscation, RecordError> {
    let known = |name: String, parameter| {
        let profile = Profile::ALL.into_iter().find(|profile| profile.name() == name);
        profile.ok_or_else(|| missing(step, parameter))
    };
    let files: Vec<(String, String)> = parameter(step, "files")?;
    let hot: Vec<(String, u32, u32)> = parameter(step, "hot")?;
    Ok(Obfuscation {
        profile: known(parameter(step, "profile")?, "profile")?,
        files: files
            .into_iter()
            .map(|(pattern, profile)| Ok((pattern, known(profile, "files")?)))
            .collect::<Result<_, _>>()?,
        reserved_names: parameter(step, "reserved_names")?,
        hot: hot.into_iter().map(|(path, line, column)| SourcePlace { path, line, column }).collect(),
        self_defence: parameter(step, "self_defence")?,
        secret: None,
        mark: None,
    })
}

fn parameter<T: DeserializeOwned>(step: &PipelineStep, name: &'static str) -> Result<T, RecordError> {
    let value = step.parameters.get(name).ok_or_else(|| missing(step, name))?;
    T::deserialize(value).map_err(|_| missing(step, name))
}

fn missing(step: &PipelineStep, parameter: &'static str) -> RecordError {
    RecordError::Parameter { step: step.step.clone(), parameter }
}
