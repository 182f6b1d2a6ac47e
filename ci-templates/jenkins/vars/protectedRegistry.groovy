/**
 * Runs one command of the binary for another step of this library. Jenkinsfiles call that step.
 *
 * `variables` names the settings that the step has, and the variable that the binary reads each from. ID tokens are bound as
 * files, for this one command; they stand in no variable and in no log. Returns the outputs.
 */
Map call(String command, Map variables, Map settings, String credentialsId) {
    String step = "protected${command.capitalize()}"
    List<String> environment = []
    for (String name : new ArrayList<String>(settings.keySet())) {
        if (name in ['credentialsId', 'signingCredentialsId', 'keyCredentialsId']) {
            continue
        }
        if (!variables.containsKey(name)) {
            error("${step} has no setting '${name}'; it has credentialsId, signingCredentialsId, keyCredentialsId, ${variables.keySet().join(', ')}")
        }
        environment.add("${variables[name]}=${settings[name]}".toString())
    }
    List bindings = []
    if (credentialsId) {
        bindings.add(file(credentialsId: credentialsId, variable: 'FRACTALOPS_ID_TOKEN_FILE'))
    }
    // A second token, with the audience `sigstore`: only for who signs with another authority than that of FractalOps.
    if (settings.signingCredentialsId) {
        bindings.add(file(credentialsId: settings.signingCredentialsId, variable: 'SIGSTORE_ID_TOKEN_FILE'))
    }
    // And one with the audience of the key service: only where that trusts this Jenkins.
    if (settings.keyCredentialsId) {
        bindings.add(file(credentialsId: settings.keyCredentialsId, variable: 'KEY_SERVICE_ID_TOKEN_FILE'))
    }
    // Whoever opens a change request chooses what its build runs: no such build gets an ID token.
    if (env.CHANGE_ID && bindings) {
        error("${step} does not run for a change request (CHANGE_ID is ${env.CHANGE_ID}), whose build would have the ID token; run it for a branch or tag")
    }

    String folder = "${pwd(tmp: true)}/protected-${command}-${UUID.randomUUID()}"
    String outputs = "${folder}/outputs.env"
    environment.add("PROTECTED_REGISTRY_DOTENV=${outputs}".toString())
    Closure run = {
        sh(label: "Protected ${command}", script: '"${PROTECTED_REGISTRY_CLI_PATH:-protected-registry}" ' + command)
    }
    try {
        writeFile(file: outputs, text: '')
        withEnv(environment) {
            if (bindings) {
                withCredentials(bindings) { run() }
            } else {
                run()
            }
        }
        return read(readFile(file: outputs, encoding: 'UTF-8'))
    } finally {
        dir(folder) { deleteDir() }
    }
}

/** Turns lines of NAME_IN_CAPITALS=value into a map with camelCase names. */
private Map read(String text) {
    Map result = [:]
    for (String line : text.split('\n')) {
        int equals = line.indexOf('=')
        if (equals > 0) {
            String[] words = line.substring(0, equals).toLowerCase().split('_')
            String name = words[0]
            for (int i = 1; i < words.length; i++) {
                name += words[i].capitalize()
            }
            result[name] = line.substring(equals + 1)
        }
    }
    return result
}
